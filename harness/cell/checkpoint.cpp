#include "harness/cell/checkpoint.hpp"

#include <ATen/ATen.h>

#include <array>
#include <cstring>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"

namespace harness::cell {
namespace {

using nlohmann::json;

constexpr std::string_view kMagic = "checkpoint 1\n";
constexpr size_t kChecksum = 32;  // hexadecimal digits at the end

// Types by their names, so that a file says what it holds whatever numbers LibTorch gives them.
constexpr std::array kTypes = {at::kByte, at::kChar,  at::kShort,  at::kInt,  at::kLong,
                               at::kHalf, at::kFloat, at::kDouble, at::kBool, at::kBFloat16};

at::ScalarType type_named(const std::string& name) {
  for (const at::ScalarType type : kTypes) {
    if (name == c10::toString(type)) return type;
  }
  throw std::runtime_error("unknown type " + name);
}

json spent_json(const FixSpent& spent) {
  return {{"seconds", spent.seconds}, {"phases", spent.phases}, {"interruptions", spent.interruptions}};
}

FixSpent spent_of(const json& value) {
  return {value.at("seconds"), value.at("phases").get<std::map<std::string, double>>(),
          value.at("interruptions")};
}

uint64_t read_length(std::string_view bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return length;
}

Checkpoint parse(std::string_view content, const std::string& identity) {
  const auto demand = [](bool fine) {
    if (!fine) throw std::runtime_error("damaged");
  };
  demand(content.size() >= kMagic.size() + sizeof(uint64_t) + kChecksum);
  const std::string_view checksum = content.substr(content.size() - kChecksum);
  content.remove_suffix(kChecksum);
  demand(content.substr(0, kMagic.size()) == kMagic && checksum == digest_of(content));
  content.remove_prefix(kMagic.size());
  const uint64_t length = read_length(content);
  content.remove_prefix(sizeof length);
  demand(length <= content.size());
  const json header = json::parse(content.substr(0, length));
  demand(header.at("identity") == identity);
  content.remove_prefix(length);
  Checkpoint checkpoint{
      {}, spent_of(header.at("spent")), header.value("redo", ""), header.value("scratch", "")};
  for (const json& entry : header.at("tensors")) {
    at::Tensor tensor =
        at::empty(entry.at("shape").get<std::vector<int64_t>>(), type_named(entry.at("type")));
    demand(tensor.nbytes() <= content.size());
    std::memcpy(tensor.mutable_data_ptr(), content.data(), tensor.nbytes());
    content.remove_prefix(tensor.nbytes());
    checkpoint.state[entry.at("name")] = std::move(tensor);
  }
  demand(content.empty());
  return checkpoint;
}

}  // namespace

std::optional<Checkpoint> read_checkpoint(const std::filesystem::path& file, const std::string& identity) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  const std::string content = read_text(file);
  try {
    return parse(content, identity);
  } catch (const std::exception&) {  // another fix's, or cut short: the fix starts from its beginning
    return std::nullopt;
  }
}

void write_checkpoint(const std::filesystem::path& file, const std::string& identity,
                      const Checkpoint& checkpoint) {
  json header = {{"identity", identity},
                 {"spent", spent_json(checkpoint.spent)},
                 {"redo", checkpoint.redo},
                 {"scratch", checkpoint.scratch},
                 {"tensors", json::array()}};
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : checkpoint.state) {
    tensors.push_back(tensor.detach().to(at::kCPU).contiguous());
    header["tensors"].push_back(
        {{"name", name}, {"type", c10::toString(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}});
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string content(kMagic);
  content.append(reinterpret_cast<const char*>(&length), sizeof length);
  content += text;
  for (const at::Tensor& tensor : tensors) {
    content.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  content += digest_of(content);
  write_atomically(file, content);
}

}  // namespace harness::cell

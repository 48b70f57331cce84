// The first byte chooses an entry of a TorchScript archive (its number among the sorted names), the others
// become that entry's content: bytes of the archive itself would only ever break its checksums. The archive
// is a small network's, HARNESS_FUZZ_MODEL names it. Where the bytes make a model, it is asked for an answer
// and saved.
#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "harness/core/error.hpp"
#include "harness/model/network.hpp"
#include "tests/fuzz/targets.hpp"

namespace harness::testing {
namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;

Entries read_entries() {
  const char* model = std::getenv("HARNESS_FUZZ_MODEL");
  if (model == nullptr) fault("HARNESS_FUZZ_MODEL does not name a TorchScript file");
  caffe2::serialize::PyTorchStreamReader reader{std::string(model)};
  std::vector<std::string> names = reader.getAllRecords();
  std::sort(names.begin(), names.end());
  Entries entries;
  for (const std::string& name : names) {
    const auto [bytes, size] = reader.getRecord(name);
    entries.emplace_back(name, std::string(static_cast<const char*>(bytes.get()), size));
  }
  return entries;
}

}  // namespace

void fuzz_script(std::string_view bytes, const std::filesystem::path& folder) {
  static const Entries entries = read_entries();
  if (bytes.empty()) return;
  const size_t chosen = static_cast<uint8_t>(bytes[0]) % entries.size();
  const std::filesystem::path file = folder / "model.pt";
  {
    caffe2::serialize::PyTorchStreamWriter writer(file.string());
    for (size_t i = 0; i < entries.size(); ++i) {
      const auto& [name, content] = entries[i];
      if (name == ".data/serialization_id" || name == "version") continue;  // the writer's own
      const std::string_view written = i == chosen ? bytes.substr(1) : std::string_view(content);
      writer.writeRecord(name, written.data(), written.size());
    }
    writer.writeEndOfFile();
  }
  const at::Tensor sample = at::linspace(-1, 1, 3 * 3 * 8 * 8).reshape({3, 3, 8, 8});
  try {
    const Network network = Network::load(file, sample);
    network.output(sample);
    network.save(folder / "saved.pt");
  } catch (const UserError&) {
  }
}

}  // namespace harness::testing

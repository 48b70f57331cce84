#include "harness/store/sealed.hpp"

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"

namespace harness {
namespace {

using nlohmann::json;

std::string text_of(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace

void write_sealed(const std::filesystem::path& file, json value, int indent, Flush flush) {
  value.erase("checksum");
  value["checksum"] = digest_of(text_of(value, -1));
  write_atomically(file, text_of(value, indent) + "\n", flush);
}

json read_sealed(const std::filesystem::path& file) {
  return unseal(read_json(file), file);
}

json unseal(json value, const std::filesystem::path& file) {
  if (!value.is_object()) throw UserError({file.string(), "", describe(value), "an object", ""});
  const auto found = value.find("checksum");
  const json checksum = found == value.end() ? json() : *found;
  value.erase("checksum");
  const std::string expected = digest_of(text_of(value, -1));
  if (checksum != expected) {
    throw UserError(
        {file.string(), "/checksum", describe(checksum), "the checksum of this content, " + expected, ""});
  }
  return value;
}

}  // namespace harness

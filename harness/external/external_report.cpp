#include "harness/external/external_report.hpp"

#include "harness/config/value_kinds.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"

namespace harness::external {
namespace {

using nlohmann::json;

constexpr uintmax_t kMaxBytes = uintmax_t{16} << 20;

// "code: text" with a code in small letters, as tables and --retry know them.
bool is_reason(const std::string& text) {
  const size_t colon = text.find(": ");
  return colon != std::string::npos && colon > 0 && colon + 2 < text.size() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == colon;
}

// An object of names, each with a value that `read` understands.
template <typename Value, typename Read>
void read_table(ObjectReader& object, const std::string& key, std::map<std::string, Value>* table,
                Read read) {
  const json* value = object.find(key);
  if (value == nullptr) return;
  const JsonPlace place = object.place(key);
  if (!value->is_object()) {
    place.report(describe(*value), "an object");
    return;
  }
  for (const auto& [name, entry] : value->items()) {
    if (!read_name(name, place.at(name), false)) continue;  // part of column and metric names
    if (const auto number = read(entry, place.at(name))) (*table)[name] = *number;
  }
}

}  // namespace

ExternalReport read_report(const std::filesystem::path& file) {
  const std::string name = "report";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) {
    throw UserError({name, "", "no such file", "the program to write it", ""});
  }
  if (std::filesystem::file_size(file, ignored) > kMaxBytes) {
    throw UserError({name, "", "more than 16 MiB", "a short report", ""});
  }
  std::vector<Problem> problems;
  const auto document = parse_json(read_text(file), name, &problems);
  if (!document) throw UserError(std::move(problems));
  ExternalReport report;
  ObjectReader object(*document, {name, "", &problems});
  std::string status;
  if (object.require("status") != nullptr) object.text("status", &status, {"ok", "FAILURE", "UNADAPTABLE"});
  if (status == "FAILURE") report.status = ExternalReport::Status::failure;
  if (status == "UNADAPTABLE") report.status = ExternalReport::Status::unadaptable;
  if (report.status == ExternalReport::Status::ok) {
    object.text("reason", &report.reason);
  } else if (const json* reason = object.require("reason")) {
    report.reason = read_text(*reason, object.place("reason")).value_or("");
    if (!report.reason.empty() && !is_reason(report.reason)) {
      object.place("reason").report(describe(*reason), "\"code: text\", the code in small letters");
    }
  }
  read_table(object, "phases", &report.phases,
             [](const json& value, const JsonPlace& place) { return read_number(value, place, {.low = 0}); });
  read_table(object, "counters", &report.counters,
             [](const json& value, const JsonPlace& place) { return read_integer(value, place); });
  read_table(object, "scalars", &report.scalars,
             [](const json& value, const JsonPlace& place) { return read_number(value, place); });
  object.finish();
  if (!problems.empty()) throw UserError(std::move(problems));
  return report;
}

}  // namespace harness::external

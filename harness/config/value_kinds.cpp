#include "harness/config/value_kinds.hpp"

#include <cmath>

#include "harness/core/json_text.hpp"
#include "harness/core/missing.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

// A kind for a type that JSON has; `read(value, place)`.
template <typename Value, typename Read>
ValueKind<Value> plain_kind(Read read, Schema schema) {
  return {
      [read](const json& value, const JsonPlace& place, const ReadContext&) { return read(value, place); },
      [](const Value& value) { return json(value); }, std::move(schema)};
}

Schema bound(double value) {
  const bool whole = std::trunc(value) == value && std::abs(value) < 1e15;
  return whole ? Schema(static_cast<int64_t>(value)) : Schema(value);
}

Schema range_schema(const char* type, const Range& range) {
  Schema schema = {{"type", type}};
  if (std::isfinite(range.low)) schema[range.above_low ? "exclusiveMinimum" : "minimum"] = bound(range.low);
  if (std::isfinite(range.high))
    schema[range.below_high ? "exclusiveMaximum" : "maximum"] = bound(range.high);
  return schema;
}

}  // namespace

ValueKind<bool> boolean_kind() {
  return plain_kind<bool>(read_boolean, {{"type", "boolean"}});
}

ValueKind<int64_t> integer_kind(const Range& range) {
  return plain_kind<int64_t>(
      [range](const json& value, const JsonPlace& place) { return read_integer(value, place, range); },
      range_schema("integer", range));
}

ValueKind<uint64_t> unsigned_kind() {
  return plain_kind<uint64_t>(
      read_unsigned,
      {{"type", "integer"}, {"minimum", 0}, {"maximum", std::numeric_limits<uint64_t>::max()}});
}

ValueKind<double> number_kind(const Range& range) {
  return plain_kind<double>(
      [range](const json& value, const JsonPlace& place) { return read_number(value, place, range); },
      range_schema("number", range));
}

ValueKind<std::string> text_kind() {
  return plain_kind<std::string>(
      [](const json& value, const JsonPlace& place) { return read_text(value, place); },
      reference_to("text"));
}

ValueKind<std::string> name_kind(bool dots) {
  return plain_kind<std::string>(
      [dots](const json& value, const JsonPlace& place) {
        return std::optional(read_name(value, place, dots).value_or(""));
      },
      reference_to(dots ? "dotted_name" : "name"));
}

ValueKind<fs::path> path_kind(bool is_data) {
  return {
      [is_data](const json& value, const JsonPlace& place, const ReadContext& context) {
        return std::optional(read_path(value, place, context.folder, context.options.need_files, is_data));
      },
      [](const fs::path& file) { return json(file.string()); }, reference_to("text")};
}

ValueKind<std::vector<fs::path>> files_kind(size_t min_count) {
  const auto read = [min_count](const json& value, const JsonPlace& place, const ReadContext& context) {
    std::vector<fs::path> files;
    if (value.is_array() && value.size() >= min_count) {
      for (size_t i = 0; i < value.size(); ++i) {
        files.push_back(read_path(value[i], place.at(i), context.folder, context.options.need_files));
      }
    } else {
      place.report(describe(value), min_count > 0 ? "a list of one file or more" : "a list of files");
    }
    return std::optional(files);
  };
  const auto print = [](const std::vector<fs::path>& files) {
    json list = json::array();
    for (const fs::path& file : files) list.push_back(file.string());
    return list;
  };
  Schema schema = {{"type", "array"}, {"items", reference_to("text")}};
  if (min_count > 0) schema["minItems"] = min_count;
  return {read, print, schema};
}

ValueKind<std::string> word_kind(const std::vector<std::string>& words) {
  std::vector<std::pair<std::string, std::string>> choices;
  for (const std::string& word : words) choices.emplace_back(word, word);
  return choice_kind(choices);
}

Schema value_definitions() {
  return {{"text", {{"type", "string"}, {"minLength", 1}, {"pattern", "^[^\\u0000-\\u001f]*$"}}},
          {"name", {{"type", "string"}, {"pattern", "^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$"}}},
          {"dotted_name", {{"type", "string"}, {"pattern", "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"}}}};
}

bool is_name(const std::string& text, bool dots) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (text.empty() || text.size() > 100 || !is_letter(text[0])) return false;
  for (const char c : text) {
    if (!is_letter(c) && c != '-' && !(dots && c == '.')) return false;
  }
  return true;
}

std::optional<std::string> read_name(const json& value, const JsonPlace& place, bool dots) {
  if (value.is_string() && is_name(value.get<std::string>(), dots)) return value.get<std::string>();
  place.report(describe(value), std::string("a name of at most 100 letters, digits, _ and -") +
                                    (dots ? " and dots" : "") + ", the first a letter, digit or _");
  return std::nullopt;
}

fs::path read_path(const json& value, const JsonPlace& place, const fs::path& folder, bool needed,
                   bool is_data) {
  const auto text = read_text(value, place);
  if (!text) return {};
  const fs::path written = folder / *text;
  fs::path file = written.lexically_normal();
  std::error_code ignored;
  // "link/../x" is not "x" if link is a link to another folder
  if (!fs::exists(file, ignored) && fs::exists(written, ignored)) file = written;
  if (!needed) return file;
  if (const auto problem = is_data ? data_file_problem(file) : file_problem(file)) {
    place.report(problem->found, "a file that can be read", problem->suggestion);
  }
  return file;
}

}  // namespace harness

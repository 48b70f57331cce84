#pragma once

#include "harness/config/fields.hpp"
#include "harness/core/json_text.hpp"

// The kinds of values that tables of fields are made of.
namespace harness {

ValueKind<bool> boolean_kind();
ValueKind<int64_t> integer_kind(const Range& range);
ValueKind<uint64_t> unsigned_kind();
ValueKind<double> number_kind(const Range& range);
ValueKind<std::string> text_kind();                        // not empty, no control characters
ValueKind<std::string> name_kind(bool dots);               // see is_name(); a wrong one is read as ""
ValueKind<std::filesystem::path> path_kind(bool is_data);  // see read_path()
ValueKind<std::vector<std::filesystem::path>> files_kind(size_t min_count);

// One of several words; each stands for a value.
template <typename Value>
ValueKind<Value> choice_kind(const std::vector<std::pair<std::string, Value>>& choices) {
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) words.push_back(word);
  return {[choices, words](const nlohmann::json& value, const JsonPlace& place,
                           const ReadContext&) -> std::optional<Value> {
            const auto read = read_text(value, place, words);
            for (const auto& [word, chosen] : choices) {
              if (read == word) return chosen;
            }
            return std::nullopt;
          },
          [choices](const Value& value) -> nlohmann::json {
            for (const auto& [word, chosen] : choices) {
              if (chosen == value) return word;
            }
            interface_misuse("a value that no word stands for");
          },
          {{"enum", words}}};
}
ValueKind<std::string> word_kind(const std::vector<std::string>& words);

// A value of `kind`, or null for none.
template <typename Value>
ValueKind<std::optional<Value>> nullable(const ValueKind<Value>& kind) {
  using Read = std::optional<std::optional<Value>>;
  Schema schema = {{"if", {{"type", "null"}}}, {"else", kind.schema}};
  if (kind.schema.contains("type")) {
    schema = kind.schema;
    schema["type"] = {kind.schema["type"], "null"};
  }
  return {[read = kind.read](const nlohmann::json& value, const JsonPlace& place,
                             const ReadContext& context) -> Read {
            if (value.is_null()) return Read(std::in_place);
            auto converted = read(value, place, context);
            return converted ? Read(std::move(converted)) : std::nullopt;
          },
          [print = kind.print](const std::optional<Value>& value) {
            return value ? print(*value) : nlohmann::json(nullptr);
          },
          schema};
}

// A value of `kind`, or one word for none. If `looks_right` returns false, the message says `expected`; else
// `kind` reads the value.
template <typename Value>
ValueKind<std::optional<Value>> unless_word(const std::string& word, const ValueKind<Value>& kind,
                                            bool (*looks_right)(const nlohmann::json&),
                                            const std::string& expected) {
  using Read = std::optional<std::optional<Value>>;
  return {[word, read = kind.read, looks_right, expected](const nlohmann::json& value, const JsonPlace& place,
                                                          const ReadContext& context) -> Read {
            if (value == word) return Read(std::in_place);
            if (looks_right(value)) {
              auto converted = read(value, place, context);
              return converted ? Read(std::move(converted)) : std::nullopt;
            }
            place.report(describe(value), expected);
            return std::nullopt;
          },
          [word, print = kind.print](const std::optional<Value>& value) {
            return value ? print(*value) : nlohmann::json(word);
          },
          {{"if", {{"type", "string"}}}, {"then", {{"const", word}}}, {"else", kind.schema}}};
}

// The definitions "text", "name" and "dotted_name" of the schema.
Schema value_definitions();

// A name that can be a folder: letters, digits, - and _, with `dots` also dots; the first is no - or dot.
bool is_name(const std::string& text, bool dots);
std::optional<std::string> read_name(const nlohmann::json& value, const JsonPlace& place, bool dots);

// A path relative to `folder`. If `needed`, a file that is missing or cannot be read is reported. `is_data`:
// a data file; the message for a folder then says how to make a data file of it.
std::filesystem::path read_path(const nlohmann::json& value, const JsonPlace& place,
                                const std::filesystem::path& folder, bool needed, bool is_data = false);

}  // namespace harness

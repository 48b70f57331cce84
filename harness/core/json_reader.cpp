#include "harness/core/json_reader.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"

namespace harness {

namespace {

using nlohmann::json;

constexpr double kExactIntegers = 9007199254740992;  // 2^53

std::string in_words(const char* what, const Range& range) {
  const bool has_low = std::isfinite(range.low), has_high = std::isfinite(range.high);
  std::string text = what;
  if (has_low && has_high && !range.above_low && !range.below_high) {
    return text + " from " + format_number(range.low) + " to " + format_number(range.high);
  }
  if (has_low) text += (range.above_low ? " above " : " of at least ") + format_number(range.low);
  if (has_low && has_high) text += " and";
  if (has_high) text += (range.below_high ? " below " : " of at most ") + format_number(range.high);
  return text;
}

bool is_inside(double value, const Range& range) {
  return (range.above_low ? value > range.low : value >= range.low) &&
         (range.below_high ? value < range.high : value <= range.high);
}

bool is_whole(const json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::trunc(number) == number && std::abs(number) <= kExactIntegers;
}

}  // namespace

JsonPlace JsonPlace::at(const std::string& key) const {
  return {file, pointer_to(pointer, key), problems};
}

JsonPlace JsonPlace::at(size_t index) const {
  return at(std::to_string(index));
}

void JsonPlace::report(std::string found, std::string expected, std::string suggestion) const {
  // the pointer of a whole document is "", and the message would have no place
  problems->push_back(
      {file, pointer.empty() ? "/" : pointer, std::move(found), std::move(expected), std::move(suggestion)});
}

std::optional<bool> read_boolean(const json& value, const JsonPlace& place) {
  if (value.is_boolean()) return value.get<bool>();
  place.report(describe(value), "true or false");
  return std::nullopt;
}

std::optional<int64_t> read_integer(const json& value, const JsonPlace& place, const Range& range) {
  const bool fits =
      is_whole(value) &&
      !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (fits && is_inside(value.get<double>(), range)) {
    return value.is_number_float() ? static_cast<int64_t>(value.get<double>()) : value.get<int64_t>();
  }
  place.report(describe(value), in_words("a whole number", range));
  return std::nullopt;
}

std::optional<uint64_t> read_unsigned(const json& value, const JsonPlace& place) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (is_whole(value) && value.get<double>() >= 0) return static_cast<uint64_t>(value.get<double>());
  place.report(describe(value), "a whole number from 0 to 18446744073709551615");
  return std::nullopt;
}

std::optional<double> read_number(const json& value, const JsonPlace& place, const Range& range) {
  if (value.is_number() && is_inside(value.get<double>(), range)) return value.get<double>();
  place.report(describe(value), in_words("a number", range));
  return std::nullopt;
}

std::optional<std::string> read_text(const json& value, const JsonPlace& place,
                                     const std::vector<std::string>& choices) {
  if (!choices.empty()) {
    if (value.is_string() && std::count(choices.begin(), choices.end(), value.get<std::string>()) > 0) {
      return value.get<std::string>();
    }
    std::string expected;
    for (const std::string& choice : choices)
      expected += (expected.empty() ? "" : " or ") + quote_text(choice);
    place.report(describe(value), expected,
                 value.is_string() ? nearest_name(value.get<std::string>(), choices) : "");
    return std::nullopt;
  }
  const auto is_control = [](unsigned char letter) { return letter < 0x20; };
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (!text.empty() && std::none_of(text.begin(), text.end(), is_control)) return text;
  }
  place.report(describe(value), "text that is not empty and has no control characters");
  return std::nullopt;
}

ObjectReader::ObjectReader(const json& value, JsonPlace place) : place_(std::move(place)) {
  if (value.is_object()) {
    value_ = &value;
  } else {
    place_.report(describe(value), "an object");
  }
}

const json* ObjectReader::find(const std::string& key) {
  known_.insert(key);
  if (value_ == nullptr) return nullptr;
  const auto entry = value_->find(key);
  return entry == value_->end() ? nullptr : &*entry;
}

const json* ObjectReader::require(const std::string& key) {
  const json* value = find(key);
  if (value == nullptr && value_ != nullptr) place_.report("no key \"" + key + "\"", "it to be given");
  return value;
}

void ObjectReader::text(const std::string& key, std::string* target,
                        const std::vector<std::string>& choices) {
  if (const json* value = find(key)) *target = read_text(*value, place(key), choices).value_or(*target);
}

void ObjectReader::finish() {
  if (value_ == nullptr) return;
  const std::vector<std::string> names(known_.begin(), known_.end());
  std::string expected;
  for (const std::string& name : names) expected += (expected.empty() ? "" : ", ") + name;
  for (const auto& [key, value] : value_->items()) {
    if (known_.count(key) > 0 || key == "$schema" || key == "comment") continue;
    place(key).report("an unknown key", names.empty() ? "no key at all" : "one of " + expected,
                      nearest_name(key, names));
  }
}

}  // namespace harness

#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/core/error.hpp"

namespace harness {

// The place of a value in a file, and the list that problems with it are appended to.
struct JsonPlace {
  std::string file;
  std::string pointer;
  std::vector<Problem>* problems = nullptr;

  JsonPlace at(const std::string& key) const;
  JsonPlace at(size_t index) const;
  void report(std::string found, std::string expected, std::string suggestion = "") const;
};

struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;   // `low` itself is excluded
  bool below_high = false;  // `high` itself is excluded
};

// Each checks one value. A wrong one is reported, and nullopt returned. Whole numbers may be written 3
// or 3.0.
std::optional<bool> read_boolean(const nlohmann::json& value, const JsonPlace& place);
std::optional<int64_t> read_integer(const nlohmann::json& value, const JsonPlace& place,
                                    const Range& range = {});
std::optional<uint64_t> read_unsigned(const nlohmann::json& value, const JsonPlace& place);
std::optional<double> read_number(const nlohmann::json& value, const JsonPlace& place,
                                  const Range& range = {});
// Text that is not empty, without control characters. If `choices` is not empty, one of them.
std::optional<std::string> read_text(const nlohmann::json& value, const JsonPlace& place,
                                     const std::vector<std::string>& choices = {});

// Reads the keys of one object. finish() reports all keys that no call has named, except "$schema" and
// "comment", which are allowed everywhere. A value that is no object is reported, and has no keys.
class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& value, JsonPlace place);

  bool is_object() const { return value_ != nullptr; }
  JsonPlace place(const std::string& key) const { return place_.at(key); }
  const JsonPlace& place() const { return place_; }

  const nlohmann::json* find(const std::string& key);     // nullptr if absent
  const nlohmann::json* require(const std::string& key);  // nullptr if absent, which is reported

  // Sets `target` to the text of a key; keeps it if the key is absent or the value wrong.
  void text(const std::string& key, std::string* target, const std::vector<std::string>& choices = {});

  void finish();

 private:
  const nlohmann::json* value_ = nullptr;
  JsonPlace place_;
  std::set<std::string> known_;
};

}  // namespace harness

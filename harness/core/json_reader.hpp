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

// Where a value stands, and where what is wrong with it is written down.
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

// Each checks one value; what is wrong is reported and nullopt returned. Whole numbers may be written 3
// or 3.0.
std::optional<bool> read_boolean(const nlohmann::json& value, const JsonPlace& place);
std::optional<int64_t> read_integer(const nlohmann::json& value, const JsonPlace& place,
                                    const Range& range = {});
std::optional<uint64_t> read_unsigned(const nlohmann::json& value, const JsonPlace& place);
std::optional<double> read_number(const nlohmann::json& value, const JsonPlace& place,
                                  const Range& range = {});
// Not empty, no control characters, one of `choices` unless these are empty.
std::optional<std::string> read_text(const nlohmann::json& value, const JsonPlace& place,
                                     const std::vector<std::string>& choices = {});

// Reads the keys of one object and knows which were asked for: finish() reports all others. The keys
// "$schema" and "comment" are allowed everywhere and ignored. A value of another type than object is
// reported, and every key then counts as absent.
class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& value, JsonPlace place);

  bool is_object() const { return value_ != nullptr; }
  JsonPlace place(const std::string& key) const { return place_.at(key); }
  const JsonPlace& place() const { return place_; }

  const nlohmann::json* find(const std::string& key);     // null where absent
  const nlohmann::json* require(const std::string& key);  // reported where absent

  // The text of a key, or what `target` holds where it is absent or wrong.
  void text(const std::string& key, std::string* target, const std::vector<std::string>& choices = {});

  void finish();

 private:
  const nlohmann::json* value_ = nullptr;
  JsonPlace place_;
  std::set<std::string> known_;
};

}  // namespace harness

#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/store/record.hpp"

namespace harness {

// All that decides a cell's result, and nothing else (harness/docs/design.md, Cells). Its digest finds the
// cell's record again, so its JSON form is kept to the bit (tests/run/test_pinned.cpp): a new field changes
// every digest, and with them kRecordSchema.
struct Identity {
  // Of the subject, as Config::effective() writes it.
  struct Subject {
    std::string name;
    nlohmann::json attack, groups;
    std::optional<nlohmann::json> training;  // absent for published models, which nobody trains here
  };
  // A program of somebody else's.
  struct Program {
    std::vector<std::string> command;  // files by their names; what is in them stands in Identity::files
    std::vector<std::string> needs, uses;
  };
  struct Approach {
    std::string key, shadow;
    nlohmann::json parameters;  // defaults filled in
    std::optional<Program> program = std::nullopt;
    std::string published = "";  // key of published models; then nothing else is said of the approach
  };

  int schema = kRecordSchema;
  Subject subject;
  Approach approach;
  std::string version;  // of the approach, with that of the one it shadows
  uint64_t seed = 0, config_seed = 0;
  double corrupted_below = 0;
  std::optional<int64_t> batch;
  bool deterministic = true, tf32 = false;
  std::string device;  // "cpu" or "cuda"
  std::map<std::string, int64_t> limit;
  std::string metrics;                                      // digest of their definitions
  std::map<std::string, std::optional<std::string>> files;  // digests; absent: the file is not at hand

  std::string digest() const;

  // The parts that decide a stage of the cell, as its file records them. The fix knows nothing of test images
  // and attack. Each later stage starts from the recorded identity of the one before, so that a kept fix of
  // another version keeps its predictions.
  nlohmann::json of_fix() const;
  nlohmann::json of_predictions(const nlohmann::json& fix) const;
  nlohmann::json of_attack(const nlohmann::json& predictions) const;
  // The part that decides what is measured of the original: the same for all cells of a subject.
  nlohmann::json of_original() const;
};

// The form in records and messages. from_json() throws nlohmann::json::exception for anything else.
void to_json(nlohmann::json& value, const Identity& identity);
void from_json(const nlohmann::json& value, Identity& identity);

// What may differ between a plan and a record that still belong together: nothing for the run engine; for
// tables the device, which they show, and files that are not at hand. What was made from part of the data
// (--limit) is no result of all of it, and the other way round.
enum class Compare { exact, tables };
enum class Match { same, other_version, different };  // other_version: of the approach, and nothing else
Match compare(const Identity& planned, const nlohmann::json& recorded, Compare how);

// Of identities as they were recorded, of a cell or of its fix.
bool same_but_for_version(nlohmann::json one, nlohmann::json other);
std::string version_in(const nlohmann::json& recorded);
nlohmann::json limit_in(const nlohmann::json& recorded);  // null: all of the data, or not known

// Where a record's identity differs from the plan's: "subject/attack/epsilon: 0.4, now 0.2", in order.
std::vector<std::string> differences(const nlohmann::json& recorded, const nlohmann::json& planned);

}  // namespace harness

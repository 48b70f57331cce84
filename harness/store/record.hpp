#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/core/catalog.hpp"

namespace harness {

inline constexpr int kRecordSchema = 2;

enum class Status { ok, unadaptable, failure, corrupted };
const char* to_text(Status status);  // "ok", "UNADAPTABLE", "FAILURE", "CORRUPTED"

// One (subject, approach, run): the unit of work.
struct CellId {
  std::string subject, model,
      approach;  // approach: its name in tables ("AR", "IR_g1", "RAND:AR", "published:AP")
  int64_t run = 1;
  std::string text() const;              // "MNIST/AR/1"
  std::filesystem::path folder() const;  // "MNIST/RAND.AR/1": the colon becomes a dot
};

struct MetricRecord {
  std::string name, unit;
  std::optional<double> value;
  std::string reason;  // where the value is absent
};

struct Invariant {
  std::string name;  // "identity", "untouched", "reload", "finite", "shapes"
  bool holds = true;
  std::string detail;
};

// All that is known of a finished cell; record.json in its folder, written atomically and sealed
// (store/sealed.hpp). Beside it:
//   fixed.pt              the fixed model (as `keep` says)
//   predictions.csv       index,label,original,fixed on the test split
//   predictions_repair.csv  the same on the repair split, where there is one
//   attack.csv image,original,fixed,zero_gradient_original,zero_gradient[,original_margin,fixed_margin]
struct Record {
  int schema = kRecordSchema;
  CellId cell;
  std::string key, name;  // approach key ("RAND") and full name ("Random weights, search of AR")
  Level level = Level::control;
  bool in_study = false;
  uint64_t seed = 0;  // of this run
  Status status = Status::ok;
  std::string reason;                 // "code: text"; for ok empty or a note
  std::vector<MetricRecord> metrics;  // every registered metric, in registry order
  std::map<std::string, double>
      phases;  // seconds: fix, load, predict, attack ..., and the fix's own as fix_NAME
  std::map<std::string, int64_t> counters;
  std::map<std::string, double> scalars;
  std::map<std::string, std::vector<double>> series;
  std::vector<Invariant> invariants;
  std::string digest;    // of the cell's identity; with another one a record is stale or outdated
  bool limited = false;  // made with --limit
  int64_t classes = 0;
  std::vector<std::string> group_names;
  std::string device;   // model name of the device, "CPU" with its model and cores
  int64_t threads = 0;  // of the process that made the fix; 0: unknown
  int64_t concurrent_workers = 1, interruptions = 0;
  nlohmann::json provenance = nlohmann::json::object();

  // The budget that ended the fix, such as "60 s": its result depends on the speed of the machine. Empty:
  // none did.
  std::string cut_short() const { return provenance.value("cut_short", ""); }
  nlohmann::json identity() const;    // in `provenance`, as it was when the record was made; null: none
  std::string failed_checks() const;  // names of the invariants that do not hold: "random_output, untouched"
  bool mistrusted() const { return !failed_checks().empty(); }
  nlohmann::json to_json() const;  // its keys: harness/docs/design.md, Cells
  // Throws UserError (file, JSON pointer) for anything that is no record of this schema.
  static Record from_json(const nlohmann::json& value, const std::filesystem::path& file);
  // The same for a whole sealed file, and for one whose checksum is wrong.
  static Record from_file(const std::filesystem::path& file);
};

// Seconds of all phases of a record that are not part of another one.
double seconds_of(const Record& record);

}  // namespace harness

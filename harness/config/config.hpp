#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/core/catalog.hpp"
#include "harness/core/error.hpp"
#include "harness/core/training.hpp"

namespace harness {

// The attack of the study (harness/docs/metrics.md, The attack). Absent `attack`: no ASR rows.
struct AttackConfig {
  double epsilon = 0;              // at least 0, in `epsilon_unit`
  bool epsilon_in_pixels = false;  // "epsilon_unit": "pixel" (steps of 0..255) or "input" (default)
  int64_t steps = 40;
  std::optional<double> relative_step;  // of epsilon; nullopt = exactly 0.01/0.3
  bool random_start = true;
  std::optional<int64_t> sample = 1000;         // nullopt = "all"
  std::optional<std::array<double, 2>> bounds;  // nullopt = "sample": minimum and maximum of the test split
  bool on_logits = false;                       // "output": "as_is" (default) or "logits"
  bool margin = true;                           // also measure ASR_MARGIN
};

// Limits of one fix; an absent one does not limit. Budgets are not part of a cell's identity. Memory is
// counted in 10^6 bytes from the start of the fix: model, data and leftovers of earlier cells do not count.
struct Budget {
  std::optional<double> seconds = std::nullopt;
  std::optional<double> megabytes = std::nullopt;         // growth of the process's resident memory
  std::optional<double> device_megabytes = std::nullopt;  // growth of LibTorch's tensors on the CUDA device
};

// An external program as an approach (key "command"). It is started with the path of a request file.
struct ExternalProgram {
  std::vector<std::string> command;          // words that name a file are absolute paths
  std::vector<std::string> needs, uses;      // splits it gets, of train, validation and repair
  std::vector<std::filesystem::path> files;  // those in `command`; their digests are in the cell's identity
};

struct PublishedModels {
  std::string key;                           // "AP": shown as published:AP
  std::vector<std::filesystem::path> files;  // run k is files[k-1]
};

struct SubjectConfig {
  std::string name;        // letters, digits, - _ .
  std::string model_name;  // default: file stem of the model
  std::filesystem::path model, data;
  std::optional<AttackConfig> attack;
  std::optional<std::vector<std::string>> groups;  // null: those of the data file
  std::vector<PublishedModels> published;
  std::optional<TrainingConfig> training;
  std::vector<std::filesystem::path> history;  // oldest first
  std::optional<Budget> budget;
};

struct ApproachConfig {
  std::string key;                  // "AR", "RAND"
  std::string shadow;               // the imitated approach: "AR" in "RAND:AR", else empty
  std::string as;                   // name in paths, --only and tables; default the key, with ":SHADOW"
  Hyperparameters hyperparameters;  // checked, with defaults; for an external program as given
  std::optional<Budget> budget;
  std::optional<ExternalProgram> external;  // then `key` is in no catalog
  std::string name;                         // full name in tables; external programs only
  Level level = Level::model;               // external programs only
};

// A subject's "training" as a configuration has it, with every default.
nlohmann::json training_json(const TrainingConfig& training);

struct Config {
  std::filesystem::path file;  // as the user named it
  std::string name;            // default: the file's stem
  std::vector<SubjectConfig> subjects;
  std::vector<ApproachConfig> approaches;
  int64_t runs = 3;
  uint64_t seed = 42;
  double corrupted_below = 0.5;
  std::string device = "auto";  // auto | cpu | cuda | cuda:0,2
  std::string keep = "all";     // all | first | none
  bool deterministic = true;    // use deterministic algorithms if LibTorch has them
  bool tf32 = false;
  std::optional<int64_t> batch;       // images per forward pass; null: follows from the model
  int64_t resident_megabytes = 1024;  // larger splits (bytes in the file) are read in slabs
  std::optional<Budget> budget;
  double checkpoint_seconds = 30;        // least time between two checkpoints of a fix
  std::map<std::string, int64_t> limit;  // --limit SPLIT=N, empty: none

  // The configuration with every default, as `check` prints it. Paths are relative to the working directory,
  // where the result can be read as a configuration again. `limit` comes from the command line and is left
  // out.
  nlohmann::json effective() const;
};

struct ConfigOptions {
  std::vector<std::pair<std::string, std::string>> set;  // --set POINTER=VALUE, VALUE as JSON or plain text
  bool need_files = true;                                // report missing files
  bool from_effective = false;  // the document is an effective(): files in commands are absolute paths
};

// Reads `file` and every subject file it names; throws one UserError with all problems of all files.
// "approaches": "all" = every entry of `catalog` that runs alone, "study" = those of the sixteen in it.
Config read_config(const std::filesystem::path& file, const Catalog& catalog,
                   const ConfigOptions& options = {});

// Reads the effective() of another process. `name` stands for the file in messages.
Config read_config_value(nlohmann::json document, const std::filesystem::path& name, const Catalog& catalog,
                         const ConfigOptions& options = {});

// The JSON schema for editors, as configs/schema.json holds it.
std::string config_schema();

// Checks the "parameters" of one approach and adds the defaults. What is wrong is appended to `problems`.
Hyperparameters read_hyperparameters(const nlohmann::json& object, const ApproachInfo& info,
                                     const std::string& file, const std::string& pointer,
                                     std::vector<Problem>* problems);

}  // namespace harness

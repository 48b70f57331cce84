#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace harness::metrics {

// Classes of one split, in split order. There are no tensors here, because the report recomputes metrics
// without LibTorch.
struct SplitOutcome {
  std::vector<int32_t> label, original, fixed;
  std::vector<uint8_t> group;  // empty: no sensitive groups
};

// Flags of the attacked test images (image = position in the test split), 1 = the attack succeeded. All
// vectors have one length, the margin ones may be empty (attack.margin false).
struct AttackOutcome {
  std::vector<int64_t> image;
  std::vector<uint8_t> original, fixed;
  std::vector<uint8_t> zero_gradient;  // of the fixed model: gradient at the start exactly zero
  std::vector<uint8_t> zero_gradient_original;
  std::vector<uint8_t> original_margin, fixed_margin;
};

// Everything a metric may look at: one run of one approach.
struct Evaluation {
  int64_t classes = 0;
  SplitOutcome test;
  std::optional<SplitOutcome> repair;
  std::optional<AttackOutcome> attack;
  std::string no_attack_reason;  // where attack is absent: "no_attack: the subject configures none"
};

struct MetricValue {
  std::optional<double> value;
  std::string reason;  // "code: text" where value is absent

  static MetricValue of(double value) { return {value, ""}; }
  static MetricValue undefined(std::string reason) { return {std::nullopt, std::move(reason)}; }
};

enum class Better { higher, lower, neither };
const char* to_text(Better better);  // "higher", "lower", ""

// A metric (harness/docs/metrics.md). One source file per family registers itself; no list is edited.
struct Metric {
  std::string name;  // "RR"
  std::string unit;  // "percent", "count", "fraction", "seconds"
  Better better = Better::neither;
  std::string table;  // "rq2" or "rq3"
  int order = 0;      // of rows within the table
  // Over several runs of an approach, it is computed on the images that were attacked in all of them.
  bool joint = false;
  // Rows above `mark_above` are marked with `mark` in the tables.
  std::optional<double> mark_above = std::nullopt;
  std::string mark = "";
  std::function<MetricValue(const Evaluation&)> compute;
  int version = 1;  // raised whenever values may change: finished cells are then measured again
};

const std::vector<Metric>& all();     // sorted by table and order
bool register_metric(Metric metric);  // returns true; called from static objects

// Changes whenever a metric is added, removed or gets another version.
std::string metrics_digest();

// The same evaluations, with only those attacked images that all of them attacked.
std::vector<Evaluation> restrict_to_common(std::vector<Evaluation> runs);

}  // namespace harness::metrics

#include "harness/plan/audit.hpp"

#include <algorithm>
#include <cmath>

#include "harness/core/files.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/metrics/outcomes.hpp"

namespace harness::plan {
namespace {

namespace fs = std::filesystem;

// On a GPU the order of sums may change from run to run. What that does to a search has no bound; these
// limits are what correct runs keep in practice.
constexpr AuditTolerance kGpuTolerance{.percent_points = 2, .differing_predictions = 0.01, .exact = false};

const char* const kFiles[] = {"fixed.pt", "predictions.csv", "predictions_repair.csv", "attack.csv"};

std::string text_of(const std::optional<double>& value) {
  return value ? format_number(*value) : "none";
}

void compare_metrics(const Record& before, const Record& again, const AuditTolerance& tolerance,
                     std::vector<std::string>* found) {
  for (const MetricRecord& metric : before.metrics) {
    const auto other = std::find_if(again.metrics.begin(), again.metrics.end(),
                                    [&](const MetricRecord& one) { return one.name == metric.name; });
    const std::optional<double> value = other == again.metrics.end() ? std::nullopt : other->value;
    const bool comparable = tolerance.exact || metric.unit == "percent";
    if (!comparable || metric.value == value) continue;
    const bool close = metric.value && value && std::abs(*metric.value - *value) <= tolerance.percent_points;
    if (!close) found->push_back(metric.name + ": " + text_of(metric.value) + ", again " + text_of(value));
  }
}

void compare_files(const fs::path& before, const fs::path& again, std::vector<std::string>* found) {
  for (const char* name : kFiles) {
    const bool had = fs::exists(before / name), has = fs::exists(again / name);
    if (had != has) {
      found->push_back(std::string(name) + ": " + (had ? "there before" : "absent before"));
    } else if (had && digest_of_file(before / name) != digest_of_file(again / name)) {
      found->push_back(std::string(name) + ": other content");
    }
  }
}

void compare_predictions(const fs::path& before, const fs::path& again, double maximum,
                         std::vector<std::string>* found) {
  if (!fs::exists(before) || !fs::exists(again)) return;
  const metrics::SplitOutcome a = metrics::read_predictions(before), b = metrics::read_predictions(again);
  if (a.fixed.size() != b.fixed.size()) {
    found->push_back("predictions: of another number of images");
    return;
  }
  double differing = 0;
  for (size_t i = 0; i < a.fixed.size(); ++i) differing += a.fixed[i] != b.fixed[i];
  if (differing <= maximum * static_cast<double>(a.fixed.size())) return;
  found->push_back("predictions: " + format_number(differing) + " of " + std::to_string(a.fixed.size()) +
                   " differ");
}

}  // namespace

AuditTolerance audit_tolerance(const std::string& device_class) {
  return device_class == "cuda" ? kGpuTolerance : AuditTolerance{};
}

std::vector<size_t> audit_sample(const std::vector<CellState>& states, int64_t count, uint64_t seed) {
  std::vector<size_t> finished, sample;
  for (size_t place = 0; place < states.size(); ++place) {
    if (states[place] == CellState::finished) finished.push_back(place);
  }
  RandomStream stream(derive_seed(seed, "audit"));
  for (const int64_t k : stream.permutation(static_cast<int64_t>(finished.size()))) {
    if (static_cast<int64_t>(sample.size()) == count) break;
    sample.push_back(finished[static_cast<size_t>(k)]);
  }
  std::sort(sample.begin(), sample.end());
  return sample;
}

std::vector<std::string> audit_differences(const CellId& cell, const ResultsTree& before,
                                           const ResultsTree& again, const AuditTolerance& tolerance) {
  const std::optional<Record> a = before.read(cell), b = again.read(cell);
  if (!a || !b) return {"no record"};
  std::vector<std::string> found;
  if (a->status != b->status || (tolerance.exact && a->reason != b->reason)) {
    found.push_back(std::string("status: ") + to_text(a->status) + " " + a->reason + ", again " +
                    to_text(b->status) + " " + b->reason);
  }
  compare_metrics(*a, *b, tolerance, &found);
  if (tolerance.exact) {
    if (a->counters != b->counters) found.push_back("counters");
    if (a->scalars != b->scalars) found.push_back("scalars");
    if (a->series != b->series) found.push_back("series");
    compare_files(before.cell(cell), again.cell(cell), &found);
  } else {
    compare_predictions(before.cell(cell) / "predictions.csv", again.cell(cell) / "predictions.csv",
                        tolerance.differing_predictions, &found);
  }
  return found;
}

}  // namespace harness::plan

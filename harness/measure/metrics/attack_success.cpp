#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/measure/metrics/counts.hpp"

// ASR: share of the attacked images that are misclassified after the attack; before it, the original and the
// fixed model get all of them right. ASR_MARGIN: the same with the margin loss. ZERO_GRADIENT: share of the
// attacked images whose first gradient is exactly zero, so that the attack never starts
// (harness/docs/metrics.md, Robustness).
namespace harness::metrics {
namespace {

using Flags = std::vector<uint8_t> AttackOutcome::*;

double share(const std::vector<uint8_t>& flags) {
  const auto set = std::count_if(flags.begin(), flags.end(), [](uint8_t flag) { return flag != 0; });
  return 100.0 * static_cast<double>(set) / static_cast<double>(flags.size());
}

// Why there is no share to compute from `flags`; empty where there is one.
std::string limitation(const Evaluation& run, Flags flags, const char* what) {
  if (!run.attack) {
    return run.no_attack_reason.empty() ? "no_attack: the subject configures none" : run.no_attack_reason;
  }
  const std::vector<uint8_t>& values = (*run.attack).*flags;
  if (run.attack->image.empty()) {
    return "no_attacked_images: the original and the fixed model are both right on none";
  }
  if (values.empty()) return std::string("not_measured: ") + what;
  if (values.size() != run.attack->image.size()) interface_misuse("attack flags and images differ in length");
  return "";
}

MetricValue share_of(const Evaluation& run, Flags flags, const char* what) {
  const std::string reason = limitation(run, flags, what);
  if (!reason.empty()) return MetricValue::undefined(reason);
  return MetricValue::of(share((*run.attack).*flags));
}

constexpr const char* kNoPlain = "the attack left no flags";
constexpr const char* kNoMargin = "attack.margin is false";

MetricValue rate(const Evaluation& run) {
  return share_of(run, &AttackOutcome::fixed, kNoPlain);
}
MetricValue original_rate(const Evaluation& run) {
  return share_of(run, &AttackOutcome::original, kNoPlain);
}

MetricValue improvement(const Evaluation& run) {
  const MetricValue before = original_rate(run), after = rate(run);
  if (!before.value) return before;
  if (!after.value) return after;
  return relative_improvement(*before.value - *after.value, *before.value, "ASR");
}

MetricValue attacked(const Evaluation& run) {
  if (!run.attack) return MetricValue::undefined(limitation(run, &AttackOutcome::fixed, kNoPlain));
  return MetricValue::of(static_cast<double>(run.attack->image.size()));
}

const bool registered[] = {
    register_metric({.name = "ASR",
                     .unit = "percent",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 30,
                     .joint = true,
                     .compute = rate}),
    register_metric({.name = "ASR_ORIGINAL",
                     .unit = "percent",
                     .better = Better::neither,
                     .table = "rq3",
                     .order = 40,
                     .joint = true,
                     .compute = original_rate}),
    register_metric({.name = "ASR_REL_IMPROVEMENT",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq3",
                     .order = 50,
                     .joint = true,
                     .compute = improvement}),
    register_metric(
        {.name = "ASR_MARGIN",
         .unit = "percent",
         .better = Better::lower,
         .table = "rq3",
         .order = 60,
         .joint = true,
         .compute =
             [](const Evaluation& run) { return share_of(run, &AttackOutcome::fixed_margin, kNoMargin); }}),
    register_metric({.name = "ASR_MARGIN_ORIGINAL",
                     .unit = "percent",
                     .better = Better::neither,
                     .table = "rq3",
                     .order = 70,
                     .joint = true,
                     .compute =
                         [](const Evaluation& run) {
                           return share_of(run, &AttackOutcome::original_margin, kNoMargin);
                         }}),
    register_metric(
        {.name = "ZERO_GRADIENT",
         .unit = "percent",
         .better = Better::neither,
         .table = "rq3",
         .order = 80,
         .joint = true,
         .mark_above = 5,
         .mark = "gradient masking: the attack cannot start on these images, ASR is no robustness",
         .compute =
             [](const Evaluation& run) { return share_of(run, &AttackOutcome::zero_gradient, kNoPlain); }}),
    register_metric({.name = "ATTACKED",
                     .unit = "count",
                     .better = Better::neither,
                     .table = "rq3",
                     .order = 90,
                     .joint = true,
                     .compute = attacked}),
};

}  // namespace
}  // namespace harness::metrics

#include "harness/cell/checks.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <set>

#include "harness/core/files.hpp"

namespace harness::cell {
namespace {

// Bit by bit: -0 is not 0, and a NaN equals itself.
at::Tensor different_bits(const at::Tensor& a, const at::Tensor& b) {
  const auto bits = [](const at::Tensor& t) {
    const at::Tensor flat = t.detach().to(at::kCPU).contiguous().reshape({-1});
    if (flat.element_size() == 4) return flat.view(at::kInt);
    if (flat.element_size() == 8) return flat.view(at::kLong);
    return flat;
  };
  return bits(a).ne(bits(b));
}

struct Found {
  std::vector<std::string> reshaped, lost, touched_unexpectedly, not_finite;
  int64_t changed = 0, added = 0;
};

void compare(const Parameter& before, const Parameter& after, const Touched& touched, Found* found) {
  if (before.value.sizes() != after.value.sizes() ||
      before.value.scalar_type() != after.value.scalar_type()) {
    found->reshaped.push_back(before.name);
    return;
  }
  at::Tensor different = different_bits(before.value, after.value);
  if (before.trainable) found->changed += different.sum().item<int64_t>();
  if (touched.everything) return;
  const auto declared = touched.weights.find(before.name);
  if (declared != touched.weights.end()) {
    if (declared->second.empty()) return;
    different.index_fill_(0, at::tensor(declared->second, at::kLong), false);
  }
  if (different.any().item<bool>()) found->touched_unexpectedly.push_back(before.name);
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Found compare_all(const Network& original, const Network& fixed, const Touched& touched) {
  Found found;
  std::set<ParameterId> known;
  for (const Parameter& before : original.parameters()) {
    const ParameterId id = fixed.find_parameter(before.name);
    if (id < 0) {
      found.lost.push_back(before.name);
      continue;
    }
    known.insert(id);
    compare(before, fixed.parameters()[static_cast<size_t>(id)], touched, &found);
  }
  for (size_t i = 0; i < fixed.parameters().size(); ++i) {
    const Parameter& parameter = fixed.parameters()[i];
    if (known.count(static_cast<ParameterId>(i)) == 0) found.added += parameter.value.numel();
    if (!parameter.value.isfinite().all().item<bool>()) found.not_finite.push_back(parameter.name);
  }
  return found;
}

const MetricRecord* find_metric(const std::vector<MetricRecord>& metrics, const std::string& name) {
  for (const MetricRecord& metric : metrics) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

}  // namespace

std::vector<Invariant> check_parameters(const Network& original, const Network& fixed, const Touched& touched,
                                        std::map<std::string, int64_t>* counters) {
  if (!original.importable() || !fixed.importable()) {
    const bool same = original.digest() == fixed.digest();
    const bool claims_same = !touched.everything && touched.weights.empty();
    return {{"untouched", same || !claims_same, "a black box: only whether anything changed can be seen"}};
  }
  const Found found = compare_all(original, fixed, touched);
  (*counters)["changed_weights"] = found.changed;
  (*counters)["added_weights"] = found.added;
  std::vector<std::string> misshapen = found.reshaped;
  misshapen.insert(misshapen.end(), found.lost.begin(), found.lost.end());
  return {{"shapes", misshapen.empty(), join(misshapen)},
          {"untouched", found.touched_unexpectedly.empty(),
           touched.everything ? "the approach may change everything" : join(found.touched_unexpectedly)},
          {"finite", found.not_finite.empty(), join(found.not_finite)}};
}

Invariant check_identity(const std::vector<MetricRecord>& metrics, double original_accuracy) {
  const MetricRecord* acc = find_metric(metrics, "ACC");
  const MetricRecord* rr = find_metric(metrics, "RR");
  const MetricRecord* nfr = find_metric(metrics, "NFR");
  if (acc == nullptr || nfr == nullptr || !acc->value || !nfr->value) {
    return {"identity", false, "ACC or NFR is missing"};
  }
  const double repaired = rr != nullptr && rr->value ? *rr->value * (100 - original_accuracy) / 100 : 0;
  const double residual = *acc->value - (original_accuracy + repaired - *nfr->value);
  return {"identity", std::abs(residual) < 1e-9, "residual " + std::to_string(residual)};
}

std::vector<Invariant> check_counts(const metrics::Evaluation& evaluation,
                                    const std::vector<MetricRecord>& metrics) {
  std::vector<Invariant> checks;
  const auto check = [&](const metrics::SplitOutcome& outcome, const std::string& suffix) {
    const auto count = [&](const std::string& name) {
      const MetricRecord* metric = find_metric(metrics, name + suffix);
      return metric != nullptr && metric->value ? *metric->value : std::nan("");
    };
    double before = 0, after = 0;
    for (size_t i = 0; i < outcome.label.size(); ++i) {
      before += outcome.original[i] == outcome.label[i];
      after += outcome.fixed[i] == outcome.label[i];
    }
    const double images = static_cast<double>(outcome.label.size());
    const double expected = before + count("REPAIRED") - count("BROKEN");
    const bool holds = after == expected && std::abs(count("ACC") - 100 * after / images) < 1e-9;
    checks.push_back({"counts" + suffix, holds,
                      format_number(before) + " right before, " + format_number(after) + " after, of " +
                          format_number(images)});
  };
  check(evaluation.test, "");
  if (evaluation.repair) check(*evaluation.repair, "_REPAIR");
  return checks;
}

Invariant check_epsilon_zero(const metrics::AttackOutcome& attack) {
  int64_t successes = 0;
  for (const auto* flags : {&attack.original, &attack.fixed, &attack.original_margin, &attack.fixed_margin}) {
    for (const uint8_t flag : *flags) successes += flag;
  }
  return {"epsilon_zero", successes == 0, std::to_string(successes) + " successes of an attack of size 0"};
}

Invariant check_unchanged(const std::vector<MetricRecord>& metrics) {
  std::string moved;
  for (const char* name : {"REPAIRED", "BROKEN", "REPAIRED_REPAIR", "BROKEN_REPAIR"}) {
    const MetricRecord* metric = find_metric(metrics, name);
    if (metric != nullptr && metric->value && *metric->value != 0)
      moved += (moved.empty() ? "" : ", ") + metric->name;
  }
  return {"unchanged", moved.empty(), moved};
}

Invariant check_reload(const std::vector<int32_t>& in_memory, const std::vector<int32_t>& reloaded) {
  int64_t different = 0;
  for (size_t i = 0; i < reloaded.size(); ++i)
    different += i >= in_memory.size() || in_memory[i] != reloaded[i];
  return {"reload", different == 0,
          std::to_string(different) + " of " + std::to_string(reloaded.size()) + " predictions differ"};
}

}  // namespace harness::cell

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/measure/metrics/metric.hpp"

namespace harness::metrics {
namespace {

// Static inside a function, so that it exists when the first metric of another source file registers itself.
std::vector<Metric>& registry() {
  static std::vector<Metric> all;
  return all;
}

template <class T>
std::vector<T> pick(const std::vector<T>& values, const std::vector<size_t>& kept) {
  if (values.empty()) return {};
  std::vector<T> result;
  result.reserve(kept.size());
  for (size_t position : kept) result.push_back(values[position]);
  return result;
}

AttackOutcome pick(const AttackOutcome& attack, const std::vector<size_t>& kept) {
  return {.image = pick(attack.image, kept),
          .original = pick(attack.original, kept),
          .fixed = pick(attack.fixed, kept),
          .zero_gradient = pick(attack.zero_gradient, kept),
          .zero_gradient_original = pick(attack.zero_gradient_original, kept),
          .original_margin = pick(attack.original_margin, kept),
          .fixed_margin = pick(attack.fixed_margin, kept)};
}

}  // namespace

const char* to_text(Better better) {
  switch (better) {
    case Better::higher:
      return "higher";
    case Better::lower:
      return "lower";
    case Better::neither:
      break;
  }
  return "";
}

const std::vector<Metric>& all() {
  return registry();
}

bool register_metric(Metric metric) {
  std::vector<Metric>& all = registry();
  for (const Metric& other : all) {
    if (other.name == metric.name) interface_misuse("two metrics are named " + metric.name);
  }
  const auto before = [](const Metric& a, const Metric& b) {
    return std::tie(a.table, a.order, a.name) < std::tie(b.table, b.order, b.name);
  };
  const auto place = std::upper_bound(all.begin(), all.end(), metric, before);
  all.insert(place, std::move(metric));
  return true;
}

std::string metrics_digest() {
  std::string text;
  for (const Metric& metric : all()) text += metric.name + " " + std::to_string(metric.version) + "\n";
  return digest_of(text);
}

std::vector<Evaluation> restrict_to_common(std::vector<Evaluation> runs) {
  // Runs without an attack are left out: they have no ASR and must not take images from the others.
  std::optional<std::vector<int64_t>> common;
  for (const Evaluation& run : runs) {
    if (!run.attack) continue;
    std::vector<int64_t> images = run.attack->image;
    std::sort(images.begin(), images.end());
    if (!common) {
      common = std::move(images);
      continue;
    }
    std::vector<int64_t> both;
    std::set_intersection(common->begin(), common->end(), images.begin(), images.end(),
                          std::back_inserter(both));
    common = std::move(both);
  }
  for (Evaluation& run : runs) {
    if (!run.attack) continue;
    std::vector<size_t> kept;
    for (size_t k = 0; k < run.attack->image.size(); ++k) {
      if (std::binary_search(common->begin(), common->end(), run.attack->image[k])) kept.push_back(k);
    }
    run.attack = pick(*run.attack, kept);
  }
  return runs;
}

}  // namespace harness::metrics

#include "approaches/search/mutants.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "harness/model/graph.hpp"

namespace harness::search {
namespace {

enum class Operator { fuzz, negate, zero, shuffle };

Operator draw_operator(const MutantSettings& settings, RandomStream& stream) {
  double place = stream.uniform() * (settings.fuzz + settings.negate + settings.zero + settings.shuffle);
  if ((place -= settings.negate) < 0) return Operator::negate;
  if ((place -= settings.zero) < 0) return Operator::zero;
  if ((place -= settings.shuffle) < 0) return Operator::shuffle;
  return Operator::fuzz;
}

// Flat indices of the kernel.
std::vector<int64_t> draw_weights(const MutableLayer& layer, const MutantSettings& settings,
                                  RandomStream& stream) {
  const int64_t size = layer.units * layer.row, count = mutated(settings, size);
  if (!layer.ranked) return stream.sample(size, count);
  std::vector<int64_t> weights;
  for (const int64_t rank : draw_ranks(window(settings, size), count, stream)) {
    weights.push_back(layer.top_weights[static_cast<size_t>(rank)]);
  }
  return weights;
}

int64_t draw_unit(const MutableLayer& layer, const MutantSettings& settings, RandomStream& stream) {
  if (!layer.ranked) return stream.below(layer.units);
  const int64_t rank = draw_ranks(window(settings, layer.units), 1, stream)[0];
  return layer.top_units[static_cast<size_t>(rank)];
}

}  // namespace

MutableLayer mutable_layer(const Network& network, const TargetLayer& layer) {
  const Node& node = network.nodes()[static_cast<size_t>(layer.node)];
  const at::Tensor& kernel = network.parameters()[layer.weight].value;
  MutableLayer result;
  result.weight = layer.weight;
  result.units = kernel.size(0);
  result.row = kernel.numel() / kernel.size(0);
  const ParameterId bias = node.parameters[1];
  if (bias < 0 || !network.parameters()[bias].trainable) return result;
  if (graph::parameter_reader_counts(network)[static_cast<size_t>(bias)] == 1) result.bias = bias;
  return result;
}

int64_t mutated(const MutantSettings& settings, int64_t size) {
  return std::clamp<int64_t>(std::llround(settings.share * static_cast<double>(size)), 1, size);
}

int64_t window(const MutantSettings& settings, int64_t size) {
  return std::min(size, 4 * mutated(settings, size));
}

std::vector<int64_t> draw_ranks(int64_t window, int64_t count, RandomStream& stream) {
  // Exponential waiting times: who comes first, and who next, is drawn in proportion to the rates.
  std::vector<std::pair<double, int64_t>> arrivals;
  for (int64_t rank = 0; rank < window; ++rank) {
    arrivals.emplace_back(-std::log1p(-stream.uniform()) / static_cast<double>(window - rank), rank);
  }
  std::partial_sort(arrivals.begin(), arrivals.begin() + count, arrivals.end());
  std::vector<int64_t> ranks;
  for (int64_t k = 0; k < count; ++k) ranks.push_back(arrivals[static_cast<size_t>(k)].second);
  return ranks;
}

Edits mutant(const Edits& parent, const MutableLayer& layer, const MutantSettings& settings,
             const OriginalValues& original, RandomStream& stream) {
  const Operator kind = draw_operator(settings, stream);
  Edits changes;
  if (kind == Operator::fuzz) {
    for (const int64_t index : draw_weights(layer, settings, stream)) {
      const double value = original.at(parent, layer.weight, index);
      changes.push_back(
          {layer.weight, index, static_cast<float>(value * (1 + settings.sigma * stream.normal()))});
    }
    return with_edits(parent, std::move(changes), original);
  }
  const int64_t unit = draw_unit(layer, settings, stream);
  const auto change = [&](float value) { return kind == Operator::zero ? 0.0f : -value; };
  const std::vector<int64_t> from =
      kind == Operator::shuffle ? stream.permutation(layer.row) : std::vector<int64_t>();
  for (int64_t k = 0; k < layer.row; ++k) {
    const int64_t taken = from.empty() ? k : from[static_cast<size_t>(k)];
    const float value = original.at(parent, layer.weight, unit * layer.row + taken);
    changes.push_back({layer.weight, unit * layer.row + k, from.empty() ? change(value) : value});
  }
  if (layer.bias >= 0 && kind != Operator::shuffle) {
    changes.push_back({layer.bias, unit, change(original.at(parent, layer.bias, unit))});
  }
  return with_edits(parent, std::move(changes), original);
}

}  // namespace harness::search

#include "approaches/locate/layer_rankings.hpp"

#include <ATen/ATen.h>

namespace harness::locate {
namespace {

std::string name_of(const char* kind, size_t layer) {
  return "rankings." + std::string(kind) + "." + std::to_string(layer);
}

}  // namespace

LayerRankings::LayerRankings(Setup setup) : setup_(std::move(setup)) {
  for (const TargetLayer& layer : setup_.layers)
    layers_.push_back(search::mutable_layer(setup_.original, layer));
}

void LayerRankings::begin_anew(const Edits& edits, int64_t generation) {
  if (base_of_ == generation) return;
  base_ = edits;
  base_of_ = generation;
  half_ranked_ = -1;
  for (search::MutableLayer& layer : layers_) layer.ranked = false;
}

bool LayerRankings::rank(int64_t number, const Stop& stop, const std::function<void()>& after_slab) {
  search::MutableLayer& result = layers_[static_cast<size_t>(number)];
  if (result.ranked) return true;
  const TargetLayer& layer = setup_.layers[static_cast<size_t>(number)];
  Network network = setup_.original.fork();
  apply_edits(network, base_);
  const RankBy by = rank_by(setup_.rank, network, layer, setup_.knockout_passes);
  if (half_ranked_ != number) sums_ = {};
  half_ranked_ = number;
  const search::SearchInputs inputs(network, setup_.inputs);
  if (!add_influence(network, layer, by, inputs, setup_.batch, stop, after_slab, sums_)) return false;
  LayerRanking ranking =
      rank_layer(network, layer, by, sums_, search::window(setup_.mutants, result.units * result.row));
  result.top_weights = std::move(ranking.weights);
  result.top_units = std::move(ranking.units);
  result.ranked = true;
  half_ranked_ = -1;
  sums_ = {};
  return true;
}

void LayerRankings::save(std::map<std::string, at::Tensor>& tensors) const {
  tensors["rankings.position"] = at::tensor(std::vector<int64_t>{base_of_, half_ranked_}, at::kLong);
  search::save_edits(std::span(&base_, 1), "rankings.base", tensors);
  if (half_ranked_ >= 0) sums_.save(tensors);
  for (size_t l = 0; l < layers_.size(); ++l) {
    if (!layers_[l].ranked) continue;
    tensors[name_of("weights", l)] = at::tensor(layers_[l].top_weights, at::kLong);
    tensors[name_of("units", l)] = at::tensor(layers_[l].top_units, at::kLong);
  }
}

void LayerRankings::load(const std::map<std::string, at::Tensor>& tensors) {
  const auto numbers = [&](const std::string& name) -> std::vector<int64_t> {
    const at::Tensor& saved = tensors.at(name);
    return {saved.const_data_ptr<int64_t>(), saved.const_data_ptr<int64_t>() + saved.numel()};
  };
  const std::vector<int64_t> position = numbers("rankings.position");
  base_of_ = position[0];
  half_ranked_ = position[1];
  base_ = search::load_edits("rankings.base", tensors)[0];
  sums_ = InfluenceSums::load(tensors);
  for (size_t l = 0; l < layers_.size(); ++l) {
    layers_[l].ranked = tensors.count(name_of("weights", l)) > 0;
    if (!layers_[l].ranked) continue;
    layers_[l].top_weights = numbers(name_of("weights", l));
    layers_[l].top_units = numbers(name_of("units", l));
  }
}

}  // namespace harness::locate

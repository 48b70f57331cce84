#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "approaches/locate/neuron_influence.hpp"
#include "approaches/search/mutants.hpp"
#include "harness/core/stop.hpp"

namespace harness::locate {

// The layers of a search, each ranked when its turn comes first: many never have one. Rankings, a half-made
// one included, go into checkpoints.
class LayerRankings {
 public:
  struct Setup {
    const Network& original;  // must outlive the rankings
    std::vector<TargetLayer> layers;
    std::vector<InputSet> inputs;  // D_rank; not empty
    std::string rank;              // see rank_by(), also for the next
    double knockout_passes = 10;
    search::MutantSettings mutants;
    int64_t batch = 250;
  };
  explicit LayerRankings(Setup setup);

  int64_t size() const { return static_cast<int64_t>(layers_.size()); }
  const search::MutableLayer& layer(int64_t number) const { return layers_[static_cast<size_t>(number)]; }
  // Forgets all rankings; those to come are of the original with `edits`. Without effect where that was
  // already done in this generation.
  void begin_anew(const Edits& edits, int64_t generation);
  // Ranks the layer unless it is. False: stopped on the way.
  bool rank(int64_t number, const Stop& stop, const std::function<void()>& after_slab);

  void save(std::map<std::string, at::Tensor>& tensors) const;  // under names "rankings.*", "influence.*"
  void load(const std::map<std::string, at::Tensor>& tensors);

 private:
  Setup setup_;
  std::vector<search::MutableLayer> layers_;
  Edits base_;                // of the network that is ranked
  int64_t base_of_ = 0;       // generation they are from
  int64_t half_ranked_ = -1;  // layer that `sums_` belong to; -1: none
  InfluenceSums sums_;
};

}  // namespace harness::locate

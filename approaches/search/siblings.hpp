#pragma once

#include <vector>

#include "approaches/search/particle_swarm.hpp"
#include "approaches/weights.hpp"

namespace harness::search {

// Where and how fast Arachne's swarm of 2019 moves (approaches/docs/NR.md and approaches/docs/DTR.md,
// Formulas and Steps in this project): a weight of a dense layer starts like its siblings, the entries of the
// kernel outside its own row and column (the whole kernel where there are none); its speed is between a fifth
// of the kernel's range and five times that.
std::vector<SwarmDimension> sibling_dimensions(const Network& network, const std::vector<WeightRef>& weights);

}  // namespace harness::search

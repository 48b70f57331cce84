#pragma once

#include <functional>
#include <optional>
#include <string>

#include "harness/approach/approach.hpp"

namespace harness::search {

// Anytime search over vectors of whole numbers by single moves of +1 or -1, from the zero vector
// (approaches/docs/3M.md, Steps in this project, 5):
//   random   each proposal makes `depth` random moves from zero
//   greedy   of `width` random moves from the best take the cheapest; ends when none is cheaper
//   mcts     Monte-Carlo tree search, UCT constant sqrt(2), one random roll-out to `depth` moves each
enum class MoveHeuristic { random, greedy, mcts };

struct MoveSearchSettings {
  MoveHeuristic heuristic = MoveHeuristic::random;
  int64_t positions = 0;  // length of the vectors
  int64_t proposals = 0;  // most evaluations
  int64_t depth = 20, width = 32;
  uint64_t seed = 0;  // every proposal has a stream of its own
};

// All that goes on from one proposal to the next.
struct MoveSearchState {
  int64_t proposals = 0;
  std::vector<int64_t> best;  // (positions)
  double best_cost = 0;
  bool ended = false;              // greedy: no move was cheaper
  std::vector<int64_t> candidate;  // greedy: cheapest of this round
  double candidate_cost = 0;
  std::vector<int64_t> tree;    // mcts: parent, action (2 * position + (1: minus)), visits of each node
  std::vector<double> rewards;  // mcts: sum of each node

  void save(CheckpointState& tensors) const;  // names "moves.*"
  static std::optional<MoveSearchState> load(const CheckpointState& tensors);
};

// Cost of a vector, infinite where it is no good; nothing when stopped before it was known: the proposal
// then does not count.
using MoveCost = std::function<std::optional<double>(const std::vector<int64_t>&)>;

// From the zero vector with `zero_cost`, or on from `resumed`. `go_on` is called before each proposal.
MoveSearchState search_moves(const MoveSearchSettings& settings, double zero_cost, const MoveCost& cost,
                             const std::function<bool(const MoveSearchState&)>& go_on,
                             const std::optional<MoveSearchState>& resumed);

}  // namespace harness::search

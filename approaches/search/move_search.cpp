#include "approaches/search/move_search.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace harness::search {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

class MoveSearch {
 public:
  MoveSearch(const MoveSearchSettings& settings, const MoveCost& cost, MoveSearchState& state)
      : settings_(settings), cost_(cost), state_(state) {}

  // False: interrupted, the state is what it was.
  bool propose() {
    const MoveSearchState before = state_;
    RandomStream stream(derive_seed(settings_.seed, "proposal/" + std::to_string(state_.proposals)));
    switch (settings_.heuristic) {
      case MoveHeuristic::random:
        random(stream);
        break;
      case MoveHeuristic::greedy:
        greedy(stream);
        break;
      case MoveHeuristic::mcts:
        tree_search(stream);
        break;
    }
    ++state_.proposals;
    if (interrupted_) state_ = before;
    return !interrupted_;
  }

 private:
  int64_t actions() const { return 2 * settings_.positions; }
  static void move(std::vector<int64_t>& vector, int64_t action) {
    vector[action / 2] += action % 2 == 0 ? 1 : -1;
  }

  double evaluate(const std::vector<int64_t>& vector) {
    const std::optional<double> known = cost_(vector);
    interrupted_ = !known;
    const double cost = known.value_or(kInfinite);
    if (settings_.heuristic != MoveHeuristic::greedy && cost < state_.best_cost) {
      state_.best_cost = cost;
      state_.best = vector;
    }
    return cost;
  }

  void random(RandomStream& stream) {
    std::vector<int64_t> vector(settings_.positions, 0);
    for (int64_t k = 0; k < settings_.depth; ++k) move(vector, stream.below(actions()));
    evaluate(vector);
  }

  // A round takes `width` proposals, so that a search can be interrupted within it.
  void greedy(RandomStream& stream) {
    if (state_.proposals % settings_.width == 0) state_.candidate_cost = kInfinite;
    std::vector<int64_t> vector = state_.best;
    move(vector, stream.below(actions()));
    if (const double cost = evaluate(vector); cost < state_.candidate_cost) {
      state_.candidate_cost = cost;
      state_.candidate = vector;
    }
    if (state_.proposals % settings_.width != settings_.width - 1) return;
    state_.ended = !(state_.candidate_cost < state_.best_cost);
    if (state_.ended) return;
    state_.best_cost = state_.candidate_cost;
    state_.best = state_.candidate;
  }

  int64_t parent(int64_t node) const { return state_.tree[3 * node]; }
  int64_t action(int64_t node) const { return state_.tree[3 * node + 1]; }
  int64_t& visits(int64_t node) const { return state_.tree[3 * node + 2]; }
  int64_t add_node(int64_t of, int64_t by) {
    state_.tree.insert(state_.tree.end(), {of, by, 0});
    state_.rewards.push_back(0);
    return std::ssize(state_.rewards) - 1;
  }

  void tree_search(RandomStream& stream) {
    if (state_.rewards.empty()) add_node(-1, -1);
    std::vector<int64_t> vector(settings_.positions, 0);
    int64_t node = 0, depth = 0;
    while (depth < settings_.depth) {
      std::vector<int64_t> children;
      for (int64_t n = node + 1; n < std::ssize(state_.rewards); ++n) {
        if (parent(n) == node) children.push_back(n);
      }
      const bool grow = std::ssize(children) < actions();
      node = grow ? add_node(node, untried(children, stream)) : best_child(node, children);
      move(vector, action(node));
      ++depth;
      if (grow) break;
    }
    for (; depth < settings_.depth; ++depth) move(vector, stream.below(actions()));
    const double before = state_.best_cost, cost = evaluate(vector);
    const double reward = std::isfinite(cost) ? (cost > before ? before / cost : 1) : 0;
    for (; node >= 0; node = parent(node)) {
      ++visits(node);
      state_.rewards[node] += reward;
    }
  }

  int64_t untried(const std::vector<int64_t>& children, RandomStream& stream) const {
    std::vector<bool> tried(actions(), false);
    for (const int64_t child : children) tried[action(child)] = true;
    int64_t left = stream.below(actions() - std::ssize(children));
    for (int64_t a = 0;; ++a) {
      if (!tried[a] && left-- == 0) return a;
    }
  }

  int64_t best_child(int64_t node, const std::vector<int64_t>& children) const {
    int64_t best = children[0];
    double best_value = -kInfinite;
    for (const int64_t child : children) {
      const auto seen = static_cast<double>(visits(child));
      const double value =
          state_.rewards[child] / seen + std::sqrt(2 * std::log(static_cast<double>(visits(node))) / seen);
      if (value > best_value) best = child, best_value = value;
    }
    return best;
  }

  const MoveSearchSettings& settings_;
  const MoveCost& cost_;
  MoveSearchState& state_;
  bool interrupted_ = false;
};

at::Tensor table(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong);
}
at::Tensor table(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}
template <typename T>
std::vector<T> values(const at::Tensor& table) {
  return {table.data_ptr<T>(), table.data_ptr<T>() + table.numel()};
}

}  // namespace

void MoveSearchState::save(CheckpointState& tensors) const {
  tensors["moves.numbers"] = table(std::vector<double>{best_cost, candidate_cost});
  tensors["moves.counts"] = table(std::vector<int64_t>{proposals, ended});
  tensors["moves.best"] = table(best);
  tensors["moves.candidate"] = table(candidate);
  tensors["moves.tree"] = table(tree);
  tensors["moves.rewards"] = table(rewards);
}

std::optional<MoveSearchState> MoveSearchState::load(const CheckpointState& tensors) {
  if (tensors.count("moves.counts") == 0) return std::nullopt;
  MoveSearchState state;
  const auto numbers = values<double>(tensors.at("moves.numbers"));
  const auto counts = values<int64_t>(tensors.at("moves.counts"));
  state.best_cost = numbers.at(0);
  state.candidate_cost = numbers.at(1);
  state.proposals = counts.at(0);
  state.ended = counts.at(1) != 0;
  state.best = values<int64_t>(tensors.at("moves.best"));
  state.candidate = values<int64_t>(tensors.at("moves.candidate"));
  state.tree = values<int64_t>(tensors.at("moves.tree"));
  state.rewards = values<double>(tensors.at("moves.rewards"));
  return state;
}

MoveSearchState search_moves(const MoveSearchSettings& settings, double zero_cost, const MoveCost& cost,
                             const std::function<bool(const MoveSearchState&)>& go_on,
                             const std::optional<MoveSearchState>& resumed) {
  MoveSearchState state;
  if (resumed) {
    state = *resumed;
  } else {
    state.best.assign(settings.positions, 0);
    state.best_cost = zero_cost;
  }
  MoveSearch search(settings, cost, state);
  while (!state.ended && state.proposals < settings.proposals && go_on(state)) {
    if (!search.propose()) {
      go_on(state);  // for the caller to save what there is
      break;
    }
  }
  return state;
}

}  // namespace harness::search

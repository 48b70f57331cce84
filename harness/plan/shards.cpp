#include "harness/plan/shards.hpp"

#include <algorithm>
#include <numeric>

namespace harness::plan {
namespace {

constexpr double kBalanced = 1.01;    // fullest shard over mean; below it nothing is moved any more
constexpr double kGoodEnough = 1.03;  // the same; above it subjects need not stay together
constexpr int kMaxMoves = 100000;     // far more than are ever needed

class Division {
 public:
  Division(const std::vector<double>& costs, const std::vector<std::string>& subjects, int64_t shards)
      : costs_(costs), subjects_(subjects), members_(shards), loads_(shards, 0) {
    total_ = std::accumulate(costs.begin(), costs.end(), 0.0);
  }

  std::vector<int64_t> run() {
    fill_in_order();
    move_while_better();
    if (peak() > kGoodEnough * share()) {  // not balanced while subjects stay together
      const Division together = *this;
      fill_dearest_first();
      move_while_better();
      if (together.peak() <= peak()) members_ = together.members_;
    }
    std::vector<int64_t> shard_of(costs_.size());
    for (size_t shard = 0; shard < members_.size(); ++shard) {
      for (const size_t cell : members_[shard]) shard_of[cell] = static_cast<int64_t>(shard) + 1;
    }
    return shard_of;
  }

 private:
  void move_while_better() {
    for (int move = 0; move < kMaxMoves && improve(); ++move) {
    }
  }

  double peak() const { return *std::max_element(loads_.begin(), loads_.end()); }
  double share() const { return total_ / static_cast<double>(loads_.size()); }

  // Within a subject the expensive cells come first, so that the cheap ones fill what is left of a shard.
  void fill_in_order() {
    std::vector<size_t> order(costs_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return subjects_[a] != subjects_[b] ? subjects_[a] < subjects_[b] : costs_[a] > costs_[b];
    });
    size_t shard = 0;
    for (const size_t cell : order) {
      // a cell goes to the shard in which the middle of its cost lies
      while (shard + 1 < loads_.size() && loads_[shard] > 0 && loads_[shard] + costs_[cell] / 2 > share())
        ++shard;
      members_[shard].push_back(cell);
      loads_[shard] += costs_[cell];
    }
  }

  // Each cell to the shard with the least, expensive ones first (longest processing time).
  void fill_dearest_first() {
    std::vector<size_t> order(costs_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs_[a] > costs_[b]; });
    members_.assign(members_.size(), {});
    loads_.assign(loads_.size(), 0);
    for (const size_t cell : order) {
      const size_t shard = std::min_element(loads_.begin(), loads_.end()) - loads_.begin();
      members_[shard].push_back(cell);
      loads_[shard] += costs_[cell];
    }
  }

  // One move or exchange out of the fullest shard; false where none helps.
  bool improve() {
    const size_t full = std::max_element(loads_.begin(), loads_.end()) - loads_.begin();
    if (loads_[full] <= kBalanced * share()) return false;
    double best = loads_[full];
    size_t to = full, mine = 0, theirs = 0;
    bool exchange = false;
    std::vector<size_t> emptiest_first(loads_.size());
    std::iota(emptiest_first.begin(), emptiest_first.end(), 0);
    std::stable_sort(emptiest_first.begin(), emptiest_first.end(),
                     [&](size_t a, size_t b) { return loads_[a] < loads_[b]; });
    for (const size_t other : emptiest_first) {
      if (other == full || to != full) break;
      for (size_t i = 0; i < members_[full].size(); ++i) {
        const double cost = costs_[members_[full][i]];
        const auto consider = [&](double back, bool exchanged, size_t j) {
          const double peak = std::max(loads_[full] - cost + back, loads_[other] + cost - back);
          if (peak >= best * (1 - 1e-9)) return;
          best = peak;
          to = other;
          mine = i;
          theirs = j;
          exchange = exchanged;
        };
        consider(0, false, 0);
        for (size_t j = 0; j < members_[other].size(); ++j) consider(costs_[members_[other][j]], true, j);
      }
    }
    if (to == full) return false;
    const size_t cell = members_[full][mine];
    members_[full].erase(members_[full].begin() + static_cast<std::ptrdiff_t>(mine));
    loads_[full] -= costs_[cell];
    if (exchange) {
      const size_t back = members_[to][theirs];
      members_[to].erase(members_[to].begin() + static_cast<std::ptrdiff_t>(theirs));
      loads_[to] -= costs_[back];
      members_[full].push_back(back);
      loads_[full] += costs_[back];
    }
    members_[to].push_back(cell);
    loads_[to] += costs_[cell];
    return true;
  }

  const std::vector<double>& costs_;
  const std::vector<std::string>& subjects_;
  std::vector<std::vector<size_t>> members_;
  std::vector<double> loads_;
  double total_ = 0;
};

}  // namespace

std::vector<int64_t> divide(const std::vector<double>& costs, const std::vector<std::string>& subjects,
                            int64_t shards) {
  return Division(costs, subjects, shards).run();
}

std::string array_range(const std::vector<int64_t>& sorted) {
  std::string text;
  for (size_t first = 0, last = 0; first < sorted.size(); first = last + 1) {
    last = first;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(sorted[first]);
    if (last > first) text += "-" + std::to_string(sorted[last]);
  }
  return text;
}

}  // namespace harness::plan

#include "harness/plan/costs.hpp"

#include <map>

namespace harness::plan {
namespace {

class Mean {
 public:
  void add(double value) {
    sum_ += value;
    ++count_;
  }
  std::optional<double> value() const {
    return count_ > 0 ? std::optional(sum_ / static_cast<double>(count_)) : std::nullopt;
  }

 private:
  double sum_ = 0;
  int64_t count_ = 0;
};

}  // namespace

std::vector<Cost> expected_costs(const std::vector<PlanEntry>& plan,
                                 const std::vector<std::optional<RecordSummary>>& records) {
  std::map<std::string, Mean> of_row, of_approach;
  Mean of_all;
  const auto row_of = [](const CellId& cell) { return cell.subject + "/" + cell.approach; };
  for (size_t i = 0; i < plan.size(); ++i) {
    if (!records[i]) continue;
    const double seconds = records[i]->seconds;
    of_row[row_of(plan[i].planned.cell)].add(seconds);
    of_approach[plan[i].planned.cell.approach].add(seconds);
    of_all.add(seconds);
  }
  std::vector<Cost> costs;
  for (size_t i = 0; i < plan.size(); ++i) {
    const CellId& cell = plan[i].planned.cell;
    if (records[i]) {
      costs.push_back({records[i]->seconds, "its own record"});
    } else if (const auto row = of_row[row_of(cell)].value()) {
      costs.push_back({row, "other runs of it"});
    } else if (const auto approach = of_approach[cell.approach].value()) {
      costs.push_back({approach, "the approach on other subjects"});
    } else if (const auto all = of_all.value()) {
      costs.push_back({all, "the other cells"});
    } else {
      costs.push_back({});
    }
  }
  return costs;
}

}  // namespace harness::plan

#include "approaches/fault_programs.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/locate/sampling.hpp"

namespace harness {
namespace {

// A margin that float32 swallows is doubled at most as often.
constexpr int kDoublings = 20;
constexpr double kMinDoubled = 1e-4;

std::span<const double> numbers(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<double>(), static_cast<size_t>(tensor.numel())};
}

// How a program ended, without a change.
Changes without_change(const lp::MinimalChange& why) {
  Changes none;
  none.outcome = why.outcome;
  none.text = why.text;
  none.rows = why.rows;
  none.rounds = why.rounds;
  return none;
}

}  // namespace

FixResult Changes::on(const Network& original) const {
  FixResult result;
  result.network = original.fork();
  if (head.defined()) add_to_kernel(*result.network, head_layer, head, result.touched);
  if (hidden.defined()) add_to_kernel(*result.network, hidden_layer, hidden, result.touched);
  return result;
}

FaultPrograms::FaultPrograms(const Network& original, FixContext& context, const HeadView& view,
                             std::span<const int64_t> faults)
    : original_(original),
      context_(context),
      hyper_(context.hyperparameters()),
      view_(view),
      head_(*last_dense_layer(original)),
      norm_(hyper_.text("norm") == "linf" ? lp::Norm::linf : lp::Norm::l1) {
  const at::Tensor at = locate::position_table({faults.begin(), faults.end()});
  inputs_ = context.split("repair").inputs(at);
  labels_ = view.judgement.labels.index_select(0, at).contiguous();
  phi_ = view.phi.index_select(0, at).to(at::kDouble).contiguous();
}

lp::Limits FaultPrograms::limits() const {
  return {.seconds = hyper_.number("solver_seconds") > 0 ? hyper_.number("solver_seconds") : lp::kInfinity,
          .bytes = static_cast<size_t>(hyper_.integer("solver_memory")) << 20,
          .stop = stop()};
}

void FaultPrograms::count(const lp::MinimalChange& found) {
  if (counting_) context_.log().counters["simplex_iterations"] += found.iterations;
}

Changes FaultPrograms::solve() {
  int64_t& iterations = context_.log().counters["simplex_iterations"];
  const int64_t before = iterations;
  Changes found;
  double margin = hyper_.number("margin");
  for (int doublings = 0; doublings <= kDoublings; ++doublings) {
    {
      const PhaseTimer timer(context_.log(), "solve");
      found = change_head(phi_, margin);
    }
    found.doublings = doublings;
    if (found.outcome == lp::Outcome::optimal) {
      const PhaseTimer timer(context_.log(), "verify");
      if (is_verified(found)) return found;
    }
    if (found.outcome == lp::Outcome::stopped) iterations = before;
    if (found.outcome != lp::Outcome::optimal) return found;
    margin = std::max(2 * margin, kMinDoubled);
  }
  found.outcome = lp::Outcome::doubtful;
  found.text = "in float32 no change gives all chosen faults their label, up to a margin of " +
               std::to_string(found.margin);
  return found;
}

Changes FaultPrograms::change_head(const at::Tensor& phi, double margin) {
  const at::Tensor logits = head_logits(original_, head_, phi, kernel(head_)).contiguous();
  const lp::MinimalChange found = lp::minimal_class_change(
      {.features = static_cast<int>(phi.size(1)),
       .classes = static_cast<int>(logits.size(1)),
       .phi = numbers(phi),
       .logits = numbers(logits),
       .labels = {labels_.const_data_ptr<int64_t>(), static_cast<size_t>(labels_.numel())},
       .margin = margin},
      norm_, limits());
  count(found);
  Changes changes = without_change(found);
  changes.points = labels_.numel();
  changes.margin = margin;
  if (found.outcome != lp::Outcome::optimal) return changes;
  changes.head = at::tensor(found.change).view(kernel(head_).sizes());
  changes.head_layer = head_;
  changes.cost = found.size;
  return changes;
}

bool FaultPrograms::is_verified(Changes& changes) const {
  try {
    const HeadCheck check =
        check_inputs(*changes.on(original_).network, inputs_, labels_, {context_.batch(), stop()});
    changes.least_margin = check.min_margin;
    return check.right == labels_.numel();
  } catch (const FixStopped&) {
    changes.outcome = lp::Outcome::stopped;
    return false;
  }
}

int64_t FaultPrograms::share_with(const TargetLayer& hidden, int64_t batch) {
  const at::NoGradGuard no_grad;
  hidden_ = hidden;
  cut_ = original_.cut_before(hidden.node);
  std::vector<at::Tensor> below, before;
  for (const at::Tensor& part : inputs_.split(batch)) {
    const at::Tensor x = part.to(original_.device());
    live_.push_back(original_.prefix(cut_, x));
    const auto values = original_.activations(x, {hidden.input, hidden.node});
    below.push_back(values[0].cpu().to(at::kDouble));
    before.push_back(values[1].cpu().to(at::kDouble));
  }
  below_ = at::cat(below);
  before_ = at::cat(before);
  const at::Tensor weights = kernel(head_).detach().cpu().to(at::kDouble);
  // The units that matter most for the decision between label and strongest competitor.
  at::Tensor others = head_logits(original_, head_, phi_, kernel(head_));
  others.scatter_(1, labels_.unsqueeze(1), -std::numeric_limits<double>::infinity());
  const at::Tensor slopes = weights.index_select(0, labels_) - weights.index_select(0, others.argmax(1));
  const at::Tensor order = slopes.sum(0).abs().argsort(0, true);
  const int64_t wanted = std::min(hyper_.integer("search_units"), order.numel());
  for (int64_t k = 0; k < wanted; ++k) units_.push_back(order[k].item<int64_t>());
  step_ = hyper_.number("step") * view_.phi.to(at::kDouble).std().item<double>();
  return std::ssize(units_);
}

Changes FaultPrograms::propose(const std::vector<int64_t>& moves, double margin) {
  at::Tensor hidden = at::zeros(kernel(*hidden_).sizes(), at::kDouble), proposal = phi_.clone();
  double cost = 0;
  const auto add = [&](double size) { cost = norm_ == lp::Norm::linf ? std::max(cost, size) : cost + size; };
  for (size_t u = 0; u < units_.size(); ++u) {
    at::Tensor wanted = proposal.select(1, units_[u]);
    bool touched = false;
    for (int64_t k = 0; k < labels_.numel(); ++k) {
      const int64_t o = moves[k * std::ssize(units_) + static_cast<int64_t>(u)];
      if (o == 0) continue;
      touched = true;
      wanted[k] = std::max(0.0, wanted[k].item<double>() + step_ * static_cast<double>(o));
    }
    if (!touched) continue;
    const at::Tensor now = before_.select(1, units_[u]).contiguous(), target = wanted.contiguous();
    const lp::MinimalChange row = lp::minimal_unit_change({.features = static_cast<int>(below_.size(1)),
                                                           .phi = numbers(below_),
                                                           .values = numbers(now),
                                                           .wanted = numbers(target)},
                                                          norm_, limits());
    count(row);
    if (row.outcome != lp::Outcome::optimal) return without_change(row);
    hidden[units_[u]] = at::tensor(row.change);
    add(row.size);
  }
  Changes changes = change_head(proposal.contiguous(), margin);
  if (changes.outcome != lp::Outcome::optimal) return changes;
  changes.hidden = hidden;
  changes.hidden_layer = *hidden_;
  add(changes.cost);
  changes.cost = keeps_faults_right(changes) ? cost : std::numeric_limits<double>::infinity();
  return changes;
}

// As is_verified(), on the layers that change alone.
bool FaultPrograms::keeps_faults_right(const Changes& changes) const {
  const at::NoGradGuard no_grad;
  const auto changed = [&](const TargetLayer& layer, const at::Tensor& change) {
    const at::Tensor sum = kernel(layer).detach().cpu().to(at::kDouble) + change;
    return std::pair(layer.weight, sum.to(at::kFloat).to(original_.device()));
  };
  const std::map<ParameterId, at::Tensor> kernels = {changed(head_, changes.head),
                                                     changed(*hidden_, changes.hidden)};
  std::vector<at::Tensor> said;
  for (const auto& live : live_) said.push_back(original_.suffix(cut_, live, kernels).argmax(1).cpu());
  return at::cat(said).equal(labels_);
}

}  // namespace harness

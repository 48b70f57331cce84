// 3M, minimal multi-layer modifications: the least change of the last dense layer that gives chosen faults
// their label, as one linear program; optionally shared with the dense layer before it, by a search over what
// that layer should give (approaches/docs/3M.md).
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "approaches/last_layer.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/lp/minimal_change.hpp"
#include "approaches/search/move_search.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// A margin that float32 swallows is doubled at most as often.
constexpr int kDoublings = 20;
constexpr double kMinDoubled = 1e-4;

std::span<const double> numbers(const at::Tensor& tensor) {
  return {tensor.data_ptr<double>(), static_cast<size_t>(tensor.numel())};
}

// Changes of both kernels (float64); undefined: none.
struct Changes {
  at::Tensor head, hidden;
  double cost = std::numeric_limits<double>::infinity();
  lp::MinimalChange last;  // of the program that decided
};

class ThreeM {
 public:
  ThreeM(const Network& original, FixContext& context)
      : original_(original),
        context_(context),
        hyper_(context.hyperparameters()),
        split_(context.split("repair")),
        head_(*last_dense_layer(original)),
        norm_(hyper_.text("norm") == "linf" ? lp::Norm::linf : lp::Norm::l1) {}

  FixResult run() {
    FixResult result;
    {
      const PhaseTimer timer(context_.log(), "features");
      view_ = view_head(original_, head_, split_, context_.batching());
      if (view_.judgement.wrong.empty()) {
        result.failure = {"no_fix", "the repair split has no misclassified input"};
        return result;
      }
      choose_points();
    }
    Changes changes = solve_last_layer(result.failure);
    if (!result.failure.code.empty()) return result;
    if (hyper_.text("search") != "none") changes = search(changes, result);
    return conclude(changes, std::move(result));
  }

 private:
  // The faults nearest to their label first, or a seeded choice (3M.md, Steps in this project, 1).
  void choose_points() {
    const std::vector<int64_t>& wrong = view_.judgement.wrong;
    const int64_t wanted = hyper_.integer("n_points");
    if (hyper_.text("choice") == "random") {
      RandomStream stream = context_.stream("points");
      points_ = locate::draw_at_most(wrong, wanted, stream);
    } else {
      points_ = faults_by_gap(view_);
      if (wanted > 0 && wanted < std::ssize(points_)) points_.resize(wanted);
    }
    const at::Tensor at = locate::position_table(points_);
    inputs_ = split_.inputs(at);
    labels_ = view_.judgement.labels.index_select(0, at).contiguous();
    phi_ = view_.phi.index_select(0, at).to(at::kDouble).contiguous();
    log("faults", static_cast<double>(wrong.size()));
    log("promised", static_cast<double>(points_.size()));
  }

  lp::Limits limits() const {
    return {.seconds = hyper_.number("solver_seconds") > 0 ? hyper_.number("solver_seconds") : lp::kInfinity,
            .bytes = static_cast<size_t>(hyper_.integer("solver_memory")) << 20,
            .stop = [this] { return stoppable_ && context_.stop().requested(); }};
  }

  static Refusal refusal(const lp::MinimalChange& found) {
    switch (found.outcome) {
      case lp::Outcome::time_limit:
      case lp::Outcome::stopped:
        return {"timeout", "the linear program was " + found.text};
      case lp::Outcome::memory_limit:
        return {"out_of_memory", "the linear program: " + found.text};
      default:
        return {"no_fix", std::string("the linear program is ") + to_text(found.outcome) + ": " + found.text};
    }
  }

  // The program (3M.md, Steps in this project, 2), with what the head reads at the points.
  lp::MinimalChange change_head(const at::Tensor& phi) {
    const at::Tensor logits = head_logits(original_, head_, phi, kernel(head_)).contiguous();
    const lp::MinimalChange found =
        lp::minimal_class_change({.features = static_cast<int>(phi.size(1)),
                                  .classes = static_cast<int>(logits.size(1)),
                                  .phi = numbers(phi),
                                  .logits = numbers(logits),
                                  .labels = {labels_.data_ptr<int64_t>(), points_.size()},
                                  .margin = margin_},
                                 norm_, limits());
    count(found);
    return found;
  }

  // What float32 has spoilt is solved again with twice the margin (3M.md, Steps in this project, 3).
  Changes solve_last_layer(Refusal& failure) {
    margin_ = hyper_.number("margin");
    stoppable_ = !context_.resumed();  // what the search found needs the answer
    for (int doublings = 0; doublings <= kDoublings; ++doublings) {
      context_.progress(0, "solve");
      Changes changes;
      {
        const PhaseTimer timer(context_.log(), "solve");
        changes.last = change_head(phi_);
      }
      if (changes.last.outcome != lp::Outcome::optimal) {
        failure = refusal(changes.last);
        return changes;
      }
      changes.head = at::tensor(changes.last.change).view(kernel(head_).sizes());
      changes.cost = changes.last.size;
      const PhaseTimer timer(context_.log(), "verify");
      if (all_repaired(changes)) {
        log("doublings", doublings);
        return changes;
      }
      margin_ = std::max(2 * margin_, kMinDoubled);
    }
    failure = {"no_fix", "in float32 no change gives all chosen faults their label, up to a margin of " +
                             std::to_string(margin_)};
    return {};
  }

  // What the layer before the head should give, h + step * o (3M.md, Steps in this project, 4).
  Changes search(const Changes& single, FixResult& result) {
    const PhaseTimer timer(context_.log(), "search");
    stoppable_ = true;
    prepare_search();
    const std::string name = hyper_.text("search");
    const search::MoveSearchSettings settings{.heuristic = name == "random"   ? search::MoveHeuristic::random
                                                           : name == "greedy" ? search::MoveHeuristic::greedy
                                                                              : search::MoveHeuristic::mcts,
                                              .positions = std::ssize(points_) * std::ssize(units_),
                                              .proposals = hyper_.integer("proposals"),
                                              .depth = hyper_.integer("depth"),
                                              .width = hyper_.integer("width"),
                                              .seed = context_.seed("search")};
    const auto& saved = context_.load_checkpoint();
    if (saved) context_.log().counters["simplex_iterations"] = saved->at("iterations").item<int64_t>();
    bool stopped = false;
    const search::MoveSearchState state = search::search_moves(
        settings, single.cost,
        [this](const auto& moves) -> std::optional<double> {
          const int64_t before = context_.log().counters["simplex_iterations"];
          const Changes found = propose(moves);
          if (found.last.outcome != lp::Outcome::stopped) return found.cost;
          context_.log().counters["simplex_iterations"] = before;
          return std::nullopt;
        },
        [&](const search::MoveSearchState& now) {
          context_.progress(static_cast<double>(now.proposals) / static_cast<double>(settings.proposals),
                            "search");
          stopped = context_.stop().requested();
          if (stopped || context_.checkpoint_due()) save(now);
          return !stopped;
        },
        saved ? search::MoveSearchState::load(*saved) : std::nullopt);
    if (!stopped) searched_ = state;  // else it has been saved
    log("single_layer_cost", single.cost);
    log("moves", static_cast<double>(std::ranges::count_if(state.best, [](int64_t o) { return o != 0; })));
    context_.log().counters["proposals"] = state.proposals;
    if (stopped) result.note = "stopped after " + std::to_string(state.proposals) + " proposals";
    if (std::ranges::all_of(state.best, [](int64_t o) { return o == 0; })) return single;
    searching_ = stoppable_ = false;  // neither counted nor ended by a stop signal: it has been solved before
    return propose(state.best);
  }

  void prepare_search() {
    hidden_ = hidden_before(original_, head_);
    const at::NoGradGuard no_grad;
    const auto values =
        original_.activations(inputs_.to(original_.device()), {hidden_->input, hidden_->node});
    below_ = values[0].cpu().to(at::kDouble).contiguous();
    before_ = values[1].cpu().to(at::kDouble).contiguous();
    const at::Tensor weights = kernel(head_).cpu().to(at::kDouble);
    // The units that matter most for the decision between label and strongest competitor.
    at::Tensor others = head_logits(original_, head_, phi_, kernel(head_));
    others.scatter_(1, labels_.unsqueeze(1), -std::numeric_limits<double>::infinity());
    const at::Tensor slopes = weights.index_select(0, labels_) - weights.index_select(0, others.argmax(1));
    const at::Tensor order = slopes.sum(0).abs().argsort(0, true);
    const int64_t wanted = std::min(hyper_.integer("search_units"), order.numel());
    for (int64_t k = 0; k < wanted; ++k) units_.push_back(order[k].item<int64_t>());
    step_ = hyper_.number("step") * view_.phi.to(at::kDouble).std().item<double>();
    log("step", step_);
  }

  // Both queries for a proposal; cost infinite where one has no answer or float32 spoils it.
  Changes propose(const std::vector<int64_t>& moves) {
    Changes changes;
    changes.hidden = at::zeros(kernel(*hidden_).sizes(), at::kDouble);
    at::Tensor proposal = phi_.clone();
    double cost = 0;
    for (size_t u = 0; u < units_.size(); ++u) {
      at::Tensor wanted = proposal.select(1, units_[u]);
      bool touched = false;
      for (int64_t k = 0; k < std::ssize(points_); ++k) {
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
      if (row.outcome != lp::Outcome::optimal) return unusable(row);
      changes.hidden[units_[u]] = at::tensor(row.change);
      cost = norm_ == lp::Norm::linf ? std::max(cost, row.size) : cost + row.size;
    }
    changes.last = change_head(proposal.contiguous());
    if (changes.last.outcome != lp::Outcome::optimal) return unusable(changes.last);
    changes.head = at::tensor(changes.last.change).view(kernel(head_).sizes());
    cost = norm_ == lp::Norm::linf ? std::max(cost, changes.last.size) : cost + changes.last.size;
    if (!all_repaired(changes)) return {};
    changes.cost = cost;
    return changes;
  }

  static Changes unusable(const lp::MinimalChange& why) {
    Changes none;
    none.last = why;
    return none;
  }

  const at::Tensor& kernel(const TargetLayer& layer) const {
    return original_.parameters()[layer.weight].value;
  }

  FixResult changed_network(const Changes& changes) const {
    FixResult result;
    result.network = original_.fork();
    if (changes.head.defined()) add_to_kernel(*result.network, head_, changes.head, result.touched);
    if (changes.hidden.defined()) add_to_kernel(*result.network, *hidden_, changes.hidden, result.touched);
    return result;
  }

  // Of the chosen faults, on the network itself.
  HeadCheck check(const FixResult& fixed) const {
    return check_inputs(*fixed.network, inputs_, labels_, context_.batch());
  }
  bool all_repaired(const Changes& changes) const {
    return check(changed_network(changes)).right == std::ssize(points_);
  }

  FixResult conclude(const Changes& changes, FixResult result) {
    const PhaseTimer timer(context_.log(), "verify");
    FixResult fixed = changed_network(changes);
    fixed.note = result.note;
    const HeadCheck checked = check(fixed);
    log("repaired", static_cast<double>(checked.right));
    log("least_margin", checked.min_margin);
    log("cost", changes.cost);
    log("margin", margin_);
    log("rows", changes.last.rows);
    log("rounds", changes.last.rounds);
    log_effect(*fixed.network, view_, split_, context_);  // what it costs the rest
    // Stopped in there, too: without the search saved, a resumed fix would make it again.
    if (searched_ && context_.stop().seen()) save(*searched_);
    return fixed;
  }

  void count(const lp::MinimalChange& found) {
    if (searching_) context_.log().counters["simplex_iterations"] += found.iterations;
  }
  void log(const char* name, double value) { context_.log().scalars[name] = value; }

  void save(const search::MoveSearchState& state) const {
    CheckpointState tensors = {
        {"iterations", at::scalar_tensor(context_.log().counters["simplex_iterations"], at::kLong)}};
    state.save(tensors);
    context_.save_checkpoint(tensors);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const TargetLayer head_;
  const lp::Norm norm_;
  std::optional<TargetLayer> hidden_;
  HeadView view_;                // of the whole repair split
  std::vector<int64_t> points_;  // chosen faults
  at::Tensor inputs_, labels_, phi_;
  at::Tensor below_, before_;   // (points, features): what the hidden layer reads, and gives before its ReLU
  std::vector<int64_t> units_;  // of the hidden layer that the search moves
  std::optional<search::MoveSearchState> searched_;  // where there was a search: its end
  double margin_ = 0, step_ = 0;
  bool searching_ = true, stoppable_ = true;
};

std::optional<Refusal> adapt(const FixRequest& request) {
  if (const auto refusal = refuse_without_last_layer(request)) return refusal;
  if (request.hyperparameters.text("search") == "none" ||
      hidden_before(*request.network, *last_dense_layer(*request.network)))
    return std::nullopt;
  return Refusal{"structure",
                 "the last layer is not preceded by a dense layer and its ReLU, which the search needs"};
}

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string
      code = "public code, jjgold012/MinimalDNNModificationLpar2020 (Goldberger et al., LPAR 2020)",
      choice = "our choice";
  return {
      choice_spec("norm", "linf", "of the change: greatest absolute value, or sum of absolute values", code,
                  {"linf", "l1"}),
      number_spec("margin", 1e-3,
                  "by which the label's logit exceeds all others; doubled until float32 keeps it", code, 0),
      integer_spec("n_points", 1, "misclassified inputs repaired together; 0: all", "inputs", choice, 0),
      choice_spec("choice", "smallest_gap", "which of them", choice, {"smallest_gap", "random"}),
      choice_spec("search", "none", "heuristic that shares the change with the dense layer before the last",
                  "Refaeli and Katz, FoMLAS 2022; none: our choice", {"none", "random", "greedy", "mcts"}),
      number_spec("step", 0.1, "of the proposals, in standard deviations of what the last layer reads",
                  choice, 0),
      integer_spec("search_units", 16, "units of that layer that proposals move", "units", choice, 1),
      integer_spec("proposals", 320, "most proposals", "proposals", choice, 0),
      integer_spec("depth", 20, "moves per proposal of random and mcts", "moves", choice, 1),
      integer_spec("width", 32, "moves tried per round of greedy", "moves", choice, 1),
      in_unit("seconds", number_spec("solver_seconds", 0, "most seconds for one linear program; 0: no limit",
                                     choice, 0)),
      integer_spec("solver_memory", 0, "most memory for one linear program; 0: no limit", "MiB", choice, 0),
  };
}

const bool registered = register_approach({
    .info = {.key = "3M",
             .name = "3M-DNN",
             .level = Level::layer,
             .publication = "FoMLAS 2022 (arXiv 2110.09929)",
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original, FixContext& context) { return ThreeM(original, context).run(); },
});

}  // namespace
}  // namespace harness

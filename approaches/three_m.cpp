// 3M, minimal multi-layer modifications: the least change of the last dense layer that gives chosen faults
// their label, as one linear program; shared with the dense layer before it, where there is one, by a search
// over what that layer should give (approaches/docs/3M.md).
#include <ATen/ATen.h>

#include <algorithm>
#include <span>

#include "approaches/fault_programs.hpp"
#include "approaches/search/move_search.hpp"
#include "approaches/train/log_state.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// One entry for the original, then one for each number of faults that was tried.
const std::vector<std::string> kSeries = {"requested", "accuracy", "change"};

// 1, 2, 4 and so on, and at last `all`.
std::vector<int64_t> doubled_up_to(int64_t all) {
  std::vector<int64_t> counts;
  for (int64_t count = 1; count < all; count *= 2) counts.push_back(count);
  counts.push_back(all);
  return counts;
}

// By a sign test of two standard deviations, of the inputs that two networks do not agree on.
bool clearly_worse(int64_t lost, int64_t gained) {
  return lost > gained && (lost - gained) * (lost - gained) > 4 * (lost + gained);
}

class ThreeM {
 public:
  ThreeM(const Network& original, FixContext& context)
      : original_(original),
        context_(context),
        hyper_(context.hyperparameters()),
        split_(context.split("repair")),
        head_(*last_dense_layer(original)),
        choosing_(hyper_.is_null("n_points") || hyper_.integer("n_points") == 0),
        judge_(choosing_ && context.has_split("validation") ? "validation" : "repair") {
    if (hyper_.text("search") != "none") hidden_ = hidden_before(original, head_);
  }

  FixResult run() {
    FixResult result;
    {
      const PhaseTimer timer(context_.log(), "features");
      view_ = view_head(original_, head_, split_, context_.batching());
      if (view_.judgement.wrong.empty()) {
        result.failure = {"no_fix", "the repair split has no misclassified input"};
        return result;
      }
      order_faults();
      load();
      if (choosing_ && !all_tried()) prepare_choice();
    }
    result.failure = solve_counts();
    if (!result.failure.code.empty()) return result;
    return conclude(hidden_ && !stopped_ ? search(best_) : best_);
  }

 private:
  // The faults in the order in which they are requested: nearest to their label first, or a seeded order; and
  // the numbers of them to try (3M.md, Steps in this project, 1).
  void order_faults() {
    const std::vector<int64_t>& wrong = view_.judgement.wrong;
    const auto all = std::ssize(wrong);
    if (hyper_.text("choice") == "random") {
      for (const int64_t k : context_.stream("points").permutation(all))
        order_.push_back(wrong[static_cast<size_t>(k)]);
    } else {
      order_ = faults_by_gap(view_);
    }
    if (choosing_)
      counts_ = doubled_up_to(all);
    else
      counts_ = {std::min(hyper_.integer("n_points"), all)};
    log("faults", static_cast<double>(all));
  }

  // What the number of faults is chosen by: which inputs the original gets right.
  void prepare_choice() {
    judged_ =
        judge_ == "repair" ? view_ : view_head(original_, head_, context_.split(judge_), context_.batching());
    best_right_ = right_with(best_.head);
    if (context_.log().series["requested"].empty()) log_choice(0, best_right_, 0);
  }

  at::Tensor right_with(const at::Tensor& change) const {
    at::Tensor changed = original_.parameters()[head_.weight].value.detach().cpu().to(at::kDouble);
    if (change.defined()) changed = (changed + change).to(at::kFloat).to(at::kDouble);
    return head_logits(original_, head_, judged_.phi, changed).argmax(1).eq(judged_.judgement.labels);
  }

  void log_choice(int64_t requested, const at::Tensor& right, double change) {
    auto& series = context_.log().series;
    series["requested"].push_back(static_cast<double>(requested));
    series["accuracy"].push_back(100 * right.sum().item<double>() / static_cast<double>(right.numel()));
    series["change"].push_back(change);
  }

  bool all_tried() const { return ended_ || next_ == std::ssize(counts_); }

  // Solves for one number of faults after the other, and keeps the best (3M.md, Steps in this project, 2 to
  // 4). A reason where there is nothing to keep.
  Refusal solve_counts() {
    while (!all_tried()) {
      context_.progress(static_cast<double>(next_) / static_cast<double>(counts_.size()), "solve");
      stopped_ = context_.stop().requested();
      Changes found;
      if (!stopped_) {
        take(counts_[static_cast<size_t>(next_)]);
        found = programs_->solve();
      }
      stopped_ = stopped_ || found.outcome == lp::Outcome::stopped;
      const bool answered = found.outcome == lp::Outcome::optimal;
      if (!answered && !best_.head.defined()) return stopped_ ? timeout() : refusal(found);
      if (stopped_) {
        save();
        return {};
      }
      ++next_;
      if (answered) keep_if_better(std::move(found));
      if (!answered) ended_ = true, unanswered_ = found.outcome;
      if (context_.checkpoint_due()) save();
    }
    return {};
  }

  void keep_if_better(Changes found) {
    if (choosing_) {
      const at::Tensor right = right_with(found.head);
      log_choice(found.points, right, found.cost);
      const auto count = [](const at::Tensor& which) { return which.sum().item<int64_t>(); };
      if (best_.head.defined() && count(right) < count(best_right_)) {
        ended_ = clearly_worse(count(best_right_ & ~right), count(right & ~best_right_));
        return;
      }
      best_right_ = right;
    }
    best_ = std::move(found);
  }

  static Refusal timeout() { return {"timeout", "stopped before the first linear program was solved"}; }

  static Refusal refusal(const Changes& found) {
    switch (found.outcome) {
      case lp::Outcome::time_limit:
        return {"timeout", "the linear program was " + found.text};
      case lp::Outcome::memory_limit:
        return {"out_of_memory", "the linear program: " + found.text};
      default:
        return {"no_fix", std::string("the linear program is ") + to_text(found.outcome) + ": " + found.text};
    }
  }

  // What the layer before the head should give, h + step * o (3M.md, Steps in this project, 5).
  Changes search(const Changes& single) {
    const PhaseTimer timer(context_.log(), "search");
    take(single.points);
    const int64_t units = programs_->share_with(*hidden_, context_.batch());
    log("step", programs_->step());
    const std::string name = hyper_.text("search");
    const search::MoveSearchSettings settings{.heuristic = name == "random" ? search::MoveHeuristic::random
                                                           : name == "mcts" ? search::MoveHeuristic::mcts
                                                                            : search::MoveHeuristic::greedy,
                                              .positions = single.points * units,
                                              .proposals = hyper_.integer("proposals"),
                                              .depth = hyper_.integer("depth"),
                                              .width = hyper_.integer("width"),
                                              .seed = context_.seed("search")};
    moves_ = search::search_moves(
        settings, single.cost,
        [&](const auto& moves) -> std::optional<double> {
          const int64_t before = context_.log().counters["simplex_iterations"];
          const Changes found = programs_->propose(moves, single.margin);
          if (found.outcome != lp::Outcome::stopped) return found.cost;
          context_.log().counters["simplex_iterations"] = before;
          return std::nullopt;
        },
        [&](const search::MoveSearchState& now) {
          context_.progress(static_cast<double>(now.proposals) / static_cast<double>(settings.proposals),
                            "search");
          stopped_ = context_.stop().requested();
          moves_ = now;
          if (stopped_ || context_.checkpoint_due()) save();
          return !stopped_;
        },
        moves_);
    log("single_layer_cost", single.cost);
    log("moves", static_cast<double>(std::ranges::count_if(moves_->best, [](int64_t o) { return o != 0; })));
    context_.log().counters["proposals"] = moves_->proposals;
    if (std::ranges::all_of(moves_->best, [](int64_t o) { return o == 0; })) return single;
    programs_->ignore_stops();  // what was found is made again, and was counted before
    Changes shared = programs_->propose(moves_->best, single.margin);
    return programs_->is_verified(shared) ? shared : single;
  }

  // From now on it is about the first `count` faults.
  void take(int64_t count) { programs_.emplace(original_, context_, view_, std::span(order_).first(count)); }

  FixResult conclude(const Changes& changes) {
    const PhaseTimer timer(context_.log(), "verify");
    FixResult fixed = changes.on(original_);
    fixed.note = note_on(changes);
    log("promised", static_cast<double>(changes.points));
    log("repaired", static_cast<double>(changes.points));
    log("least_margin", changes.least_margin);
    log("cost", changes.cost);
    log("margin", changes.margin);
    log("doublings", static_cast<double>(best_.doublings));
    log("rows", static_cast<double>(changes.rows));
    log("rounds", static_cast<double>(changes.rounds));
    log_effect(*fixed.network, view_, split_, context_);  // what it costs the rest
    // Stopped in there: without what has been solved, a resumed fix would solve it again.
    if (!stopped_ && context_.stop().seen()) save();
    return fixed;
  }

  std::string note_on(const Changes& changes) const {
    const auto at = [this](int64_t which) { return std::to_string(counts_[static_cast<size_t>(which)]); };
    std::string note =
        std::to_string(changes.points) + " of " + std::to_string(order_.size()) + " faults were requested";
    if (choosing_ && judge_ == "repair")
      note += ", a number chosen on the repair split, as there is no validation split";
    if (unanswered_) note += "; " + at(next_ - 1) + " together have no answer: " + to_text(*unanswered_);
    if (stopped_)
      note += moves_ ? "; stopped after " + std::to_string(moves_->proposals) + " proposals"
                     : "; stopped before " + at(next_) + " were";
    if (changes.hidden.defined()) return note;
    note += "; single layer";
    if (moves_) return note + ": no smaller shared change was found";
    if (!hidden_ && hyper_.text("search") != "none") note += ": no dense layer and ReLU before the last";
    return note;
  }

  void log(const char* name, double value) { context_.log().scalars[name] = value; }

  // There is something to save once the first program is solved.
  void save() const {
    CheckpointState tensors = {
        {"iterations", at::scalar_tensor(context_.log().counters["simplex_iterations"], at::kLong)},
        {"best.head", best_.head},
        {"best.numbers", at::tensor(std::vector{best_.cost, best_.margin, best_.least_margin}, at::kDouble)},
        {"best.counts",
         at::tensor(std::vector{best_.points, best_.doublings, best_.rows, best_.rounds}, at::kLong)},
        {"tried", at::tensor(std::vector{next_, int64_t{ended_},
                                         unanswered_ ? static_cast<int64_t>(*unanswered_) : int64_t{-1}},
                             at::kLong)}};
    if (choosing_) train::save_series(context_.log(), kSeries, tensors);
    if (moves_) moves_->save(tensors);
    context_.save_checkpoint(tensors);
  }

  void load() {
    const auto& saved = context_.load_checkpoint();
    if (!saved) return;
    context_.log().counters["simplex_iterations"] = saved->at("iterations").item<int64_t>();
    best_.head = saved->at("best.head");
    best_.head_layer = head_;
    best_.outcome = lp::Outcome::optimal;
    const double* numbers = saved->at("best.numbers").const_data_ptr<double>();
    best_.cost = numbers[0], best_.margin = numbers[1], best_.least_margin = numbers[2];
    const int64_t* counts = saved->at("best.counts").const_data_ptr<int64_t>();
    best_.points = counts[0], best_.doublings = counts[1], best_.rows = counts[2], best_.rounds = counts[3];
    const int64_t* tried = saved->at("tried").const_data_ptr<int64_t>();
    next_ = tried[0], ended_ = tried[1] != 0;
    if (tried[2] >= 0) unanswered_ = static_cast<lp::Outcome>(tried[2]);
    if (choosing_) train::load_series(context_.log(), kSeries, *saved);
    moves_ = search::MoveSearchState::load(*saved);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const TargetLayer head_;
  const bool choosing_;                           // the number of faults
  const std::string judge_;                       // the split that it is chosen on
  std::optional<TargetLayer> hidden_;             // with a search
  HeadView view_, judged_;                        // of the repair split, and of the split `judge_`
  std::vector<int64_t> order_;                    // positions of all faults
  std::vector<int64_t> counts_;                   // numbers of faults to try
  int64_t next_ = 0;                              // of counts_
  bool ended_ = false;                            // before all of them
  std::optional<lp::Outcome> unanswered_;         // why the last of those tried has no answer
  Changes best_;                                  // of the last layer alone
  at::Tensor best_right_;                         // bool (inputs of judged_)
  std::optional<FaultPrograms> programs_;         // of the faults that take() took
  std::optional<search::MoveSearchState> moves_;  // once the search has begun
  bool stopped_ = false;
};

std::optional<Refusal> adapt(const FixRequest& request) {
  if (const auto refusal = refuse_without_last_layer(request)) return refusal;
  const std::string search = request.hyperparameters.text("search");
  if (search == "none" || search == "auto" ||
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
      choice_spec("norm", "l1", "of the change: greatest absolute value, or sum of absolute values", code,
                  {"linf", "l1"}),
      number_spec("margin", 1e-3,
                  "by which the label's logit exceeds all others; doubled until float32 keeps it", code, 0),
      {.name = "n_points",
       .type = HyperparameterType::integer,
       .default_value = nullptr,
       .meaning =
           "misclassified inputs repaired together, at most all; null or 0: chosen among 1, 2, 4, ... by "
           "the accuracy on the validation split",
       .unit = "inputs",
       .source = choice,
       .minimum = 0,
       .nullable = true},
      choice_spec("choice", "smallest_gap", "which of them", choice, {"smallest_gap", "random"}),
      choice_spec("search", "auto",
                  "heuristic that shares the change with the dense layer before the last; auto: greedy where "
                  "there is one",
                  "Refaeli and Katz, FoMLAS 2022; auto and none: our choice",
                  {"auto", "none", "random", "greedy", "mcts"}),
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
             .basis = Basis::reconstruction,
             .publication = "FoMLAS 2022 (arXiv 2110.09929)",
             .version = 2,
             .needs = {"repair"},
             .uses = {"validation"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original, FixContext& context) { return ThreeM(original, context).run(); },
});

}  // namespace
}  // namespace harness

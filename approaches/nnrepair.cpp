// NNR, NNrepair: for every class an expert, the original with a few weights into that class's logit changed
// so that as many as possible of some inputs of the class get it, found by a mixed-integer program; then one
// network that joins the experts (approaches/docs/NNR.md). Only the last layer is repaired.
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/last_layer.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/lp/max_rows.hpp"
#include "approaches/train/log_state.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

constexpr double kAdvantage = 1e-4;  // what "greater" means in a program (NNR.md, Formulas)
constexpr double kWithin = 1e-4;     // what the open bounds lose

std::vector<int64_t> of_class(const HeadView& view, const std::vector<int64_t>& positions, int64_t label) {
  std::vector<int64_t> found;
  for (const int64_t n : positions) {
    if (view.judgement.labels[n].item<int64_t>() == label) found.push_back(n);
  }
  return found;
}

// Expert `own` gives class `own` to these inputs: its logit is above all others of the original.
at::Tensor claims(const at::Tensor& logits, const at::Tensor& expert, int64_t own) {
  at::Tensor others = logits.clone();
  others.select(1, own).fill_(-std::numeric_limits<double>::infinity());
  return expert.gt(others.amax(1));
}

class NNRepair {
 public:
  NNRepair(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        head_(*last_dense_layer(original)),
        kernel_(original.parameters()[head_.weight].value.detach().cpu().to(at::kDouble)),
        bound_(parameters.number("delta_bound") - kWithin),
        deltas_(at::zeros_like(kernel_)) {}

  FixResult run() {
    FixResult result;
    int64_t next = resume();
    {
      const PhaseTimer timer(context_.log(), "features");
      view_ = view_head(original_, head_, split_, context_.batching());
    }
    const int64_t classes = kernel_.size(0);
    bool stopped = false;
    {
      const PhaseTimer timer(context_.log(), "solve");
      choose_hard_inputs();
      while (next < classes && !stopped) {
        context_.progress(static_cast<double>(next) / static_cast<double>(classes), "solve");
        stopped = context_.stop().requested();
        if (stopped || context_.checkpoint_due()) save(next);
        if (stopped) break;
        stopped = !make_expert(next);
        if (stopped) save(next);
        if (!stopped) ++next;
      }
    }
    log("experts", static_cast<double>(deltas_.ne(0).any(1).sum().item<int64_t>()));
    if (experts_.empty()) {
      result.failure =
          stopped ? Refusal{"timeout", "stopped before the first expert was made"}
                  : Refusal{"no_fix", "no class has a misclassified input and a program with an answer"};
      return result;
    }
    result = combine(selected(next));
    const auto add_note = [&](const std::string& text) {
      result.note += (result.note.empty() ? "" : "; ") + text;
    };
    if (stopped) {
      add_note(
          "stopped after " + std::to_string(next) + " classes" +
          (dropped_ ? " and in the programs of class " + std::to_string(next) + ", which is dropped" : ""));
    }
    if (cut_short_) add_note("stopped in the selection, which is on the repair split");
    return result;
  }

 protected:
  // Evenly from all classes, correctly classified (NNR.md, Steps in this project, 2).
  void choose_hard_inputs() {
    const int64_t each = hyper_.integer("hard_per_class");
    if (each == 0) return;
    for (int64_t c = 0; c < kernel_.size(0); ++c) {
      RandomStream stream = context_.stream("hard/" + std::to_string(c));
      const auto some = locate::draw_at_most(of_class(view_, view_.judgement.correct, c), each, stream);
      hard_.insert(hard_.end(), some.begin(), some.end());
    }
  }

  // The weights whose products differ most between failing and passing inputs of the class (NNR.md, Steps in
  // this project, 3).
  virtual std::vector<int64_t> locate(int64_t k, const std::vector<int64_t>& wrong,
                                      const std::vector<int64_t>& right) {
    const auto impact = [&](const std::vector<int64_t>& inputs) {
      if (inputs.empty()) return at::zeros({kernel_.size(1)}, at::kDouble);
      const at::Tensor phi = view_.phi.index_select(0, locate::position_table(inputs)).to(at::kDouble);
      return (phi * kernel_[k]).abs().mean(0);
    };
    const at::Tensor order = (impact(wrong) - impact(right)).argsort(true, 0, true);
    return locate::positions_of(order.slice(0, 0, edges_each()).contiguous());
  }

  int64_t edges_each() const { return std::min(hyper_.integer("edges"), kernel_.size(1)); }

  // False where it was stopped in the class's programs: nothing of the class is kept or logged.
  bool make_expert(int64_t k) {
    const std::vector<int64_t> wrong = of_class(view_, view_.judgement.wrong, k),
                               right = of_class(view_, view_.judgement.correct, k);
    const std::string name = std::to_string(k);
    if (wrong.empty()) {
      count_class("without_faults");
      return true;
    }
    RandomStream some_wrong = context_.stream("wrong/" + name), some_right = context_.stream("right/" + name);
    const int64_t half = hyper_.integer("soft_inputs") / 2;
    std::vector<int64_t> soft = locate::draw_at_most(wrong, half, some_wrong);
    const std::vector<int64_t> passing = locate::draw_at_most(right, half, some_right);
    soft.insert(soft.end(), passing.begin(), passing.end());
    const std::vector<int64_t> edges = locate(k, wrong, right);
    const auto found = solve(k, edges, soft);
    if (!found) return !dropped_;
    for (size_t e = 0; e < edges.size(); ++e) deltas_[k][edges[e]] = (*found)[e];
    experts_.push_back(k);
    check(k, soft);
    return true;
  }

  // The mixed-integer programs (NNR.md, Formulas); nothing where they have no answer, or are stopped.
  std::optional<std::vector<double>> solve(int64_t k, const std::vector<int64_t>& edges,
                                           const std::vector<int64_t>& soft) {
    std::vector<lp::Row> soft_rows, hard_rows;
    for (const int64_t n : soft) {
      for (int64_t j = 0; j < kernel_.size(0); ++j) {
        if (j != k) soft_rows.push_back({features(n, edges), kAdvantage - advantage(n, k, j)});
      }
    }
    for (const int64_t n : hard_) hard_rows.push_back(hard_row(k, edges, n));
    const lp::MaxRows found =
        lp::satisfy_max_rows(static_cast<int>(edges.size()), hard_rows, soft_rows, bound_,
                             {.seconds = hyper_.number("solver_seconds"), .stop = context_.stop()});
    dropped_ = found.outcome == lp::Outcome::stopped;
    if (dropped_) return std::nullopt;
    context_.log().counters["programs"] += found.programs;
    context_.log().counters["nodes"] += found.nodes;
    if (found.outcome == lp::Outcome::infeasible) count_class("infeasible");
    if (found.outcome == lp::Outcome::time_limit) count_class("time_limit");
    if (found.outcome == lp::Outcome::doubtful) count_class("doubtful");
    if (found.s.empty()) return std::nullopt;
    if (!found.least) count_class("not_least");
    context_.log().series["violated_rows"].push_back(found.violated);
    return found.s;
  }

  // Keeps its class: of an input of another class only y_c > y_k is not constant; of class k the strongest
  // competitor is the only one that counts.
  lp::Row hard_row(int64_t k, const std::vector<int64_t>& edges, int64_t n) const {
    const auto label = view_.judgement.labels[n].item<int64_t>();
    lp::Row row{features(n, edges), -lp::kInfinity};
    if (label == k) {
      for (int64_t j = 0; j < kernel_.size(0); ++j) {
        if (j != k) row.min_value = std::max(row.min_value, kAdvantage - advantage(n, k, j));
      }
    } else {
      row.min_value = kAdvantage - advantage(n, label, k);
      for (double& value : row.values) value = -value;
    }
    return row;
  }

  // Guarantees checked, not claimed: soft inputs that the program says the expert gets right, and those it
  // does when it runs in float32.
  void check(int64_t k, const std::vector<int64_t>& soft) {
    const at::Tensor table = locate::position_table(soft), phi = view_.phi.index_select(0, table);
    const at::Tensor expert = expert_logit(phi, k);
    const at::Tensor promised = claims(view_.logits.index_select(0, table), expert - kAdvantage / 2, k);
    Network network = original_.fork();
    Touched touched;
    at::Tensor change = at::zeros_like(deltas_);
    change[k].copy_(deltas_[k]);
    add_to_kernel(network, head_, change, touched);
    const at::Tensor right = network.classify(split_.inputs(table).to(original_.device())).cpu().eq(k);
    const at::Tensor wrong_before = view_.judgement.predictions.index_select(0, table).ne(k);
    add("promised", (promised & wrong_before).sum().item<double>());
    add("repaired", (promised & wrong_before & right).sum().item<double>());
    add("promised_kept", (promised & ~wrong_before).sum().item<double>());
    add("kept", (promised & ~wrong_before & right).sum().item<double>());
  }

  // Experts whose one-against-rest F1 is above the original's on data for training (NNR.md, Steps in this
  // project, 5).
  std::vector<int64_t> selected(int64_t next) {
    if (hyper_.text("selection") == "none") return experts_;
    const PhaseTimer timer(context_.log(), "select");
    std::string source = context_.has_split("train")        ? "train"
                         : context_.has_split("validation") ? "validation"
                                                            : "repair";
    HeadView view = view_;
    try {
      if (source != "repair")
        view = view_head(original_, head_, context_.split(source), {context_.batch(), context_.stop()});
    } catch (const FixStopped&) {  // what there is of experts is not lost
      source = "repair";
      cut_short_ = true;
      save(next);
    }
    log("selected_on_" + source, static_cast<double>(context_.split(source).size()));
    std::vector<int64_t> chosen;
    for (const int64_t k : experts_) {
      const at::Tensor own = view.judgement.labels.eq(k);
      const auto f1 = [&own](const at::Tensor& said) {
        const double hits = (said & own).sum().item<double>();
        return hits == 0 ? 0 : 2 * hits / (said.sum().item<double>() + own.sum().item<double>());
      };
      const double expert = f1(claims(view.logits, expert_logit(view.phi, k), k));
      if (expert > f1(view.judgement.predictions.eq(k))) chosen.push_back(k);
    }
    return chosen;
  }

  // The experts as one network (NNR.md, Formulas). AVERAGE: mean of the experts' changes. CONF: of the
  // classes that claim an input, the one with the largest logit, else the original's answer; as the logit of
  // expert k is z_k + deltas_k.phi, that is the largest of z + max(0, deltas phi), claimed or not: three
  // nodes behind the last layer.
  FixResult combine(const std::vector<int64_t>& chosen) {
    FixResult result;
    result.network = original_.fork();
    log("selected", static_cast<double>(chosen.size()));
    if (chosen.empty()) {
      result.note = "returned the original: no expert has a better F1 than it";
      return result;
    }
    at::Tensor change = at::zeros_like(deltas_);
    for (const int64_t k : chosen) change[k].copy_(deltas_[k]);
    Network& network = *result.network;
    if (hyper_.text("combine") == "average") {
      add_to_kernel(network, head_, change / static_cast<double>(chosen.size()), result.touched);
    } else {
      const auto node = [](NodeKind kind, const char* name, std::vector<NodeId> inputs) {
        Node made;
        made.kind = kind;
        made.name = std::string("nnrepair_") + name;
        made.inputs = std::move(inputs);
        return made;
      };
      Node experts = node(NodeKind::linear, "experts", {head_.input});
      experts.parameters = {network.add_parameter("nnrepair.experts", change.to(at::kFloat), false), -1};
      const NodeId linear = network.insert_after(head_.node, experts);
      const NodeId relu = network.insert_after(linear, node(NodeKind::relu, "gain", {linear}));
      Node vote = node(NodeKind::add, "vote", {head_.node, relu});
      vote.attributes = ArithmeticAttributes{};
      network.insert_after(relu, vote);
    }
    log_effect(network, view_, split_, context_);
    return result;
  }

  at::Tensor expert_logit(const at::Tensor& phi, int64_t k) const {
    return head_logits(original_, head_, phi, kernel_ + deltas_).select(1, k);
  }
  double advantage(int64_t n, int64_t a, int64_t b) const {
    return (view_.logits[n][a] - view_.logits[n][b]).item<double>();
  }
  std::vector<double> features(int64_t n, const std::vector<int64_t>& edges) const {
    const at::Tensor phi =
        view_.phi[n].index_select(0, locate::position_table(edges)).to(at::kDouble).contiguous();
    return {phi.data_ptr<double>(), phi.data_ptr<double>() + phi.numel()};
  }
  void count_class(const char* what) { context_.log().counters[std::string("classes_") + what] += 1; }
  void add(const char* name, double value) { context_.log().scalars[name] += value; }
  void log(const std::string& name, double value) { context_.log().scalars[name] = value; }

  void save(int64_t next) const {
    CheckpointState tensors = {{"next", at::scalar_tensor(next, at::kLong)},
                               {"deltas", deltas_.clone()},
                               {"experts", locate::position_table(experts_)}};
    train::save_log(context_.log(), tensors);
    context_.save_checkpoint(tensors);
  }

  // The class to go on with.
  int64_t resume() {
    const auto saved = context_.load_checkpoint();
    if (!saved) return 0;
    deltas_.copy_(saved->at("deltas"));
    experts_ = locate::positions_of(saved->at("experts"));
    train::load_log(context_.log(), *saved);
    return saved->at("next").item<int64_t>();
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const TargetLayer head_;
  const at::Tensor kernel_;  // float64 (classes, features)
  const double bound_;
  at::Tensor deltas_;             // float64, row k: of expert k
  HeadView view_;                 // of the repair split
  std::vector<int64_t> hard_;     // inputs that every expert leaves right
  std::vector<int64_t> experts_;  // classes that have one
  bool dropped_ = false;          // a class, whose programs were stopped
  bool cut_short_ = false;        // the selection was stopped
};

// RAND:NNR: as many edges of each class.
class RandomNNRepair final : public NNRepair {
 public:
  using NNRepair::NNRepair;

 protected:
  std::vector<int64_t> locate(int64_t k, const std::vector<int64_t>&, const std::vector<int64_t>&) override {
    return context_.stream("edges/" + std::to_string(k)).sample(kernel_.size(1), edges_each());
  }
};

std::optional<Refusal> adapt(const FixRequest& request) {
  if (const auto refusal = refuse_without_last_layer(request)) return refusal;
  const int64_t classes = request.network->classes(),
                maximum = request.hyperparameters.integer("max_classes");
  if (classes <= maximum) return std::nullopt;
  return Refusal{"too_many_classes", "an expert for each of " + std::to_string(classes) +
                                         " classes is impractical; max_classes is " +
                                         std::to_string(maximum)};
}

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string hyper = "public constraint files, nnrepair/nnrepair (Usman et al., CAV 2021)",
                    steps = "public code, nnrepair/nnrepair (Usman et al., CAV 2021)", choice = "our choice";
  return {
      integer_spec("edges", 5, "weights of the last layer that an expert changes", "weights", hyper, 1),
      number_spec("delta_bound", 0.5, "no weight changes by as much", hyper, 1e-3),
      integer_spec("soft_inputs", 10, "of its class for an expert, half of them misclassified", "inputs",
                   hyper, 2),
      integer_spec("hard_per_class", 5,
                   "correctly classified inputs of every class that every expert leaves right", "inputs",
                   hyper, 0),
      choice_spec("combine", "conf", "one network of all experts: conf adds three nodes, average none", steps,
                  {"conf", "average"}),
      choice_spec("selection", "f1",
                  "experts that take part: those with a better F1 than the original, or all", steps,
                  {"f1", "none"}),
      integer_spec("max_classes", 100, "more classes are UNADAPTABLE", "classes", choice, 2),
      in_unit("seconds", number_spec("solver_seconds", 60,
                                     "most seconds for both programs of a class together", choice, 0)),
  };
}

const bool registered = register_approach({
    .info = {.key = "NNR",
             .name = "NNrepair",
             .level = Level::neuron,
             .basis = Basis::reconstruction,
             .publication = "CAV 2021",
             .version = 2,
             .needs = {"repair"},
             .uses = {"train", "validation"},
             .hyperparameters = hyperparameter_specs()},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return NNRepair(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomNNRepair(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

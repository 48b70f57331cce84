// VERE, VeRe: a unit of a dense layer is chosen by linear bounds of what moving it can do for the faults, and
// gets new weights that move it there; one unit a round (approaches/docs/VERE.md).
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "approaches/bounds/unit_edit.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/train/log_state.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// What one round logs; kept in checkpoints.
const std::vector<std::string> kSeries = {"unit",   "significance", "score",           "incorrect", "patched",
                                          "intact", "proved",       "fit_loss_before", "fit_loss",  "steps"};

class VeRe {
 public:
  VeRe(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        site_(std::get<bounds::NeuronSite>(bounds::neuron_site(original, parameters.integer("check_layer")))),
        work_(original.fork()) {}

  FixResult run() {
    {
      const PhaseTimer timer(context_.log(), "prepare");
      const auto saved = context_.load_checkpoint();
      choose_inputs(saved);
      if (faults_ == 0 || clean_ == 0) {
        FixResult result;
        result.failure = {"no_fix", "the repair split has no input that is classified " +
                                        std::string(faults_ == 0 ? "wrongly" : "correctly")};
        return result;
      }
      prepare_inputs();
      best_ = current();
      best_score_ = score(0, clean_);  // the original: all clean inputs right, no fault
      if (saved) load(*saved);
      update_edited_values();
      judge();
    }
    const auto rounds = static_cast<size_t>(hyper_.integer("rounds"));
    std::string end;
    while (end.empty() && rounds_done() < rounds) {
      context_.progress(static_cast<double>(rounds_done()) / static_cast<double>(rounds), "round");
      end = context_.stop().requested() ? "stopped" : round();
      if (end.empty() && context_.checkpoint_due()) save();
    }
    if (end == "stopped") save();
    return conclude(end);
  }

 protected:
  size_t rounds_done() const { return series_.at("unit").size(); }

  // Consecutive blocks of the faults and of the other inputs, from seeded places (VERE.md, Steps in this
  // project, 2).
  void choose_inputs(const std::optional<CheckpointState>& saved) {
    if (saved) {
      positions_ = locate::positions_of(saved->at("positions"));
      faults_ = saved->at("faults").item<int64_t>();
    } else {
      const locate::Judgement judgement = locate::judge_split(original_, split_, context_.batching());
      const auto block = [this](const std::vector<int64_t>& from, const std::string& name) {
        const auto there = static_cast<int64_t>(from.size()), maximum = hyper_.integer(name);
        const int64_t count = maximum == 0 ? there : std::min(there, maximum);
        RandomStream stream = context_.stream(name);
        const int64_t begin = stream.below(there - count + 1);
        positions_.insert(positions_.end(), from.begin() + begin, from.begin() + begin + count);
        return count;
      };
      faults_ = block(judgement.wrong, "faults");
      block(judgement.correct, "clean");
    }
    clean_ = static_cast<int64_t>(positions_.size()) - faults_;
    context_.log().scalars["faults"] = static_cast<double>(faults_);
    context_.log().scalars["clean"] = static_cast<double>(clean_);
    for (const std::string& name : kSeries) series_[name];
  }

  // What never changes: everything before the layer is computed once.
  void prepare_inputs() {
    const at::NoGradGuard no_grad;
    cut_ = original_.cut_before(site_.layer ? site_.layer->node : site_.next.node);
    std::vector<at::Tensor> parts, labels;
    for_each_batch(original_, InputSet{&split_, positions_}, context_.batching(), [&](const Batch& batch) {
      parts.push_back(original_.prefix(cut_, batch.x).at(0));
      labels.push_back(batch.labels);
    });
    features_ = at::cat(parts);
    labels_ = at::cat(labels);
    const at::Tensor features = features_.to(at::kCPU, at::kDouble);
    values_ = site_.layer ? bounds::PartialGraph(original_, {site_.features}, site_.values)
                                .value({{site_.features, features}})
                          : features;
  }

  // Values of the units that differ from the original's. One way of computing them, resumed or not.
  void update_edited_values() {
    for (const double unit : series_.at("unit")) update_values(static_cast<int64_t>(unit));
  }
  void update_values(int64_t unit) {
    if (site_.layer) values_.select(1, unit).copy_(bounds::unit_values(work_, site_, unit, features_));
  }

  // Of a network that gets so many of the chosen faults and clean inputs right (VERE.md, Formulas).
  double score(int64_t patched, int64_t intact) const {
    double kept = static_cast<double>(intact);
    if (hyper_.text("score") == "published")
      kept = static_cast<double>(faults_) * kept / static_cast<double>(clean_);
    return kept + static_cast<double>(patched);
  }

  // Which inputs the current network gets right.
  void judge() {
    const PhaseTimer timer(context_.log(), "evaluate");
    std::vector<at::Tensor> parts;
    for (const at::Tensor& part : features_.split(context_.batch()))
      parts.push_back(work_.suffix(cut_, {part}).argmax(1).cpu());
    predictions_ = at::cat(parts);
    right_ = predictions_ == labels_;
    patched_ = right_.slice(0, 0, faults_).sum().item<int64_t>();
    intact_ = right_.slice(0, faults_).sum().item<int64_t>();
  }

  // One round (VERE.md, Steps in this project, 3 to 5). Empty, or why there are no more rounds.
  std::string round() {
    const int64_t maximum = hyper_.integer("round_faults");
    const at::Tensor wrong = (~right_.slice(0, 0, faults_)).nonzero().flatten().slice(0, 0, maximum);
    if (wrong.numel() == 0) return "no input of the repair split is left to be fixed";
    const auto moves = bound(wrong);
    if (!moves) return "stopped";
    const int64_t unit = locate(*moves);
    if (unit < 0) return "no unit has a positive significance";
    const bounds::UnitFit fit = fit_round(*moves, unit, wrong);
    bounds::write_unit(work_, site_, unit, fit.unit);
    update_values(unit);
    judge();
    const double reached = score(patched_, intact_);
    series_["unit"].push_back(static_cast<double>(unit));
    series_["significance"].push_back(moves->significance[unit].item<double>());
    series_["score"].push_back(reached);
    series_["incorrect"].push_back(static_cast<double>(wrong.numel()));
    series_["patched"].push_back(static_cast<double>(patched_));
    series_["intact"].push_back(static_cast<double>(intact_));
    if (reached > best_score_) {
      best_score_ = reached;
      best_round_ = static_cast<int64_t>(rounds_done());
      best_ = current();
    }
    return "";
  }

  // VERE.md, Steps in this project, 4.
  bounds::UnitFit fit_round(const bounds::UnitMoves& moves, int64_t unit, const at::Tensor& wrong) {
    const PhaseTimer timer(context_.log(), "fit");
    const at::Tensor right = right_.slice(0, faults_).nonzero().flatten() + faults_;
    const int64_t kept = hyper_.integer("clean_ratio") * wrong.numel();
    const at::Tensor rows = at::cat({wrong, right.slice(0, 0, kept)});
    const bounds::UnitTargets targets =
        bounds::unit_targets(moves, unit, values_.select(1, unit).index_select(0, rows));
    RandomStream stream = context_.stream("round/" + std::to_string(rounds_done()));
    const bounds::UnitFit fit =
        bounds::fit_unit(work_, site_, unit, features_.index_select(0, rows.to(features_.device())), targets,
                         {.epochs = hyper_.integer("epochs"),
                          .batch = hyper_.integer("batch"),
                          .learning_rate = learning_rate()},
                         stream);
    series_["proved"].push_back(static_cast<double>(targets.proved));
    series_["fit_loss_before"].push_back(fit.first_loss);
    series_["fit_loss"].push_back(fit.last_loss);
    series_["steps"].push_back(static_cast<double>(fit.steps));
    return fit;
  }

  // VERE.md, Steps in this project, 3; nothing when it is stopped.
  std::optional<bounds::UnitMoves> bound(const at::Tensor& wrong) {
    const PhaseTimer timer(context_.log(), "bounds");
    const bounds::MarginQuestion question{
        .values = values_.index_select(0, wrong),
        .edges = bounds::interval_edges(values_, {.start = hyper_.text("interval_start"),
                                                  .factor = hyper_.number("interval_factor"),
                                                  .count = hyper_.integer("intervals")}),
        .labels = labels_.index_select(0, wrong),
        .predicted = predictions_.index_select(0, wrong)};
    return bounds::unit_moves(bounds::MarginBounds(work_, site_.values), question,
                              [this] { return !context_.stop().requested(); });
  }

  // The first of the most significant units; -1: none is significant.
  virtual int64_t locate(const bounds::UnitMoves& moves) const {
    const double* score = moves.significance.const_data_ptr<double>();
    const int64_t first = std::max_element(score, score + moves.significance.numel()) - score;
    return score[first] > 0 ? first : -1;
  }

  double learning_rate() const {
    if (!hyper_.is_null("learning_rate")) return hyper_.number("learning_rate");
    return site_.layer ? 0.01 : 0.001;
  }

  FixResult conclude(const std::string& end) {
    FixLog& log = context_.log();
    log.counters["rounds"] = static_cast<int64_t>(rounds_done());
    log.counters["optimiser_steps"] = 0;
    for (const double steps : series_.at("steps"))
      log.counters["optimiser_steps"] += static_cast<int64_t>(steps);
    log.scalars["best_round"] = static_cast<double>(best_round_);
    log.scalars["best_score"] = best_score_;
    if (best_round_ > 0) {
      const auto best = static_cast<size_t>(best_round_ - 1);
      log.scalars["n_patched"] = series_.at("patched")[best];
      log.scalars["n_broken"] = static_cast<double>(clean_) - series_.at("intact")[best];
    }
    log.scalars["vgg_type"] = site_.vgg_type;
    FixResult result;
    if (rounds_done() == 0) {
      result.failure = end == "stopped" ? Refusal{"timeout", "stopped before the first round ended"}
                                        : Refusal{"no_fix", end};
      return result;
    }
    result.network = original_.fork();
    const auto add_note = [&](const std::string& text) {
      result.note += (result.note.empty() ? "" : "; ") + text;
    };
    if (!site_.vgg_type) add_note("beyond the study: not a VGG head");
    if (!end.empty()) {
      add_note(end == "stopped" ? "stopped after " + std::to_string(rounds_done()) + " rounds"
                                : "ended early: " + end);
    }
    if (best_round_ == 0) {
      add_note("returned the original: no round was better");
      return result;
    }
    for (const auto& [id, value] : best_) result.network->set_parameter(id, value);
    std::set<int64_t> units;
    for (int64_t k = 0; k < best_round_; ++k)
      units.insert(static_cast<int64_t>(series_.at("unit")[static_cast<size_t>(k)]));
    result.touched = bounds::touched_by_units(original_, site_, units);
    return result;
  }

  std::map<ParameterId, at::Tensor> current() const {
    std::map<ParameterId, at::Tensor> values;
    for (const ParameterId id : bounds::edited_parameters(original_, site_))
      values[id] = work_.parameters()[static_cast<size_t>(id)].value.detach().cpu().clone();
    return values;
  }

  void save() const {
    CheckpointState tensors = {{"positions", locate::position_table(positions_)},
                               {"faults", at::scalar_tensor(faults_, at::kLong)},
                               {"best_score", at::scalar_tensor(best_score_, at::kDouble)},
                               {"best_round", at::scalar_tensor(best_round_, at::kLong)}};
    for (const auto& [id, value] : best_) tensors["best." + std::to_string(id)] = value;
    for (const auto& [id, value] : current()) tensors["now." + std::to_string(id)] = value;
    train::save_series(context_.log(), kSeries, tensors);
    context_.save_checkpoint(tensors);
  }

  void load(const CheckpointState& saved) {
    best_score_ = saved.at("best_score").item<double>();
    best_round_ = saved.at("best_round").item<int64_t>();
    for (auto& [id, value] : best_) {
      value = saved.at("best." + std::to_string(id));
      work_.set_parameter(id, saved.at("now." + std::to_string(id)));
    }
    train::load_series(context_.log(), kSeries, saved);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const bounds::NeuronSite site_;
  Network work_;
  Cut cut_;
  std::vector<int64_t> positions_;  // in the split: the faults, then the clean inputs
  int64_t faults_ = 0, clean_ = 0;
  at::Tensor features_;  // float32 (N, F), the network's device
  at::Tensor values_;    // float64 (N, V), CPU: of the units, with the current network
  at::Tensor labels_, predictions_, right_;
  int64_t patched_ = 0, intact_ = 0;
  std::map<std::string, std::vector<double>>& series_ = context_.log().series;  // one entry a round
  std::map<ParameterId, at::Tensor> best_;
  double best_score_ = 0;
  int64_t best_round_ = 0;  // 0: the original
};

// RAND:VERE: any unit that varies.
class RandomVeRe final : public VeRe {
 public:
  using VeRe::VeRe;

 protected:
  int64_t locate(const bounds::UnitMoves&) const override {
    const std::vector<int64_t> movable =
        locate::positions_of((values_.amin(0) < values_.amax(0)).nonzero().flatten());
    RandomStream stream = context_.stream("random_unit/" + std::to_string(rounds_done()));
    return movable.empty() ? -1 : movable[static_cast<size_t>(stream.below(std::ssize(movable)))];
  }
};

std::optional<Refusal> adapt(const FixRequest& request) {
  const auto site = bounds::neuron_site(*request.network, request.hyperparameters.integer("check_layer"));
  if (const auto* refusal = std::get_if<Refusal>(&site)) return *refusal;
  if (request.hyperparameters.text("applicability") == "study" &&
      !std::get<bounds::NeuronSite>(site).vgg_type) {
    return Refusal{"structure",
                   "the published code is tied to VGG heads: three dense layers, the first two equally wide"};
  }
  if (request.repair_faults && *request.repair_faults == 0)
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  if (request.repair_correct && *request.repair_correct == 0)
    return Refusal{"no_correct_inputs", "the repair split has no correctly classified input"};
  return std::nullopt;
}

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string code = "public code, nninjn/VeRe (Ma et al., ICSE 2024)";
  std::vector<HyperparameterSpec> specs = {
      choice_spec("applicability", "extended",
                  "extended: wherever the structure allows; study: VGG heads alone, as the published code",
                  "our choice; study: " + code, {"extended", "study"}),
      integer_spec("check_layer", 1, "dense layer of the head whose units are edited; 0: its features",
                   "layer", code, 0),
      integer_spec("rounds", 20, "units that are edited, one a round", "rounds", code, 1),
      integer_spec("faults", 1000, "most misclassified inputs; 0: all", "inputs", code, 0),
      integer_spec("clean", 0, "most correctly classified inputs; 0: all", "inputs",
                   "our choice; public code: 1000", 0),
      choice_spec(
          "score", "counts",
          "of a round; counts: right answers, each counts 1; published: clean inputs together count as much "
          "as the faults",
          "our choice; published: " + code, {"counts", "published"}),
      integer_spec("round_faults", 128, "most misclassified inputs of a round", "inputs", code, 1),
      integer_spec("clean_ratio", 10, "correctly classified inputs of a fit for each misclassified one",
                   "inputs", code, 0),
      integer_spec("intervals", 10, "intervals that each unit's values are tried in", "intervals", code, 1),
      choice_spec("interval_start", "below_minimum",
                  "where they begin: one range below a unit's least value, at it, or symmetric about 0", code,
                  {"below_minimum", "minimum", "symmetric"}),
      number_spec("interval_factor", 1, "length of all intervals, in ranges of the unit's values", code, 0,
                  1e6),
      integer_spec("epochs", 5, "epochs of a unit's fit", "epochs", "our choice", 1),
      integer_spec("batch", 64, "inputs of an optimiser step", "inputs", code, 1),
  };
  specs.push_back({.name = "learning_rate",
                   .default_value = nullptr,
                   .meaning = "of Adam; null: 0.01, and 0.001 for check_layer 0",
                   .unit = "number",
                   .source = code,
                   .minimum = 0,
                   .maximum = 100,
                   .nullable = true});
  return specs;
}

const bool registered = register_approach({
    .info = {.key = "VERE",
             .name = "VeRe",
             .level = Level::neuron,
             .basis = Basis::reference_code,
             .publication = "ICSE 2024",
             .version = 2,
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return VeRe(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomVeRe(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

// CARE: which hidden units cause the faults, found by interventions, and multipliers for them, found by a
// particle swarm; misbehaviour is misclassification here (approaches/docs/CARE.md).
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/dense_layers.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/interventions.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/locate/unit_values.hpp"
#include "approaches/locate/watched_pass.hpp"
#include "approaches/search/run_search.hpp"
#include "harness/approach/specs.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

// Weight of the accuracy against the faults. The public code has 0.1 to 0.3, a constant for each model.
constexpr double kAlpha = 0.3;

// The cost (CARE.md, Formulas): the less the better, so the swarm maximises its negative.
search::Objective care_objective(double positive_weight) {
  return {.measure = search::Measure::counts, .value = [positive_weight](const search::Verdict& verdict) {
            const auto rate = [](const search::Tally& tally) {
              return static_cast<double>(tally.misses) / static_cast<double>(tally.inputs);
            };
            return -(rate(verdict.negative) + positive_weight * rate(verdict.positive));
          }};
}

// An input of a dense layer: what is multiplied.
struct Unit {
  int64_t layer = 0;  // position in the list of layers
  int64_t number = 0;
};

std::vector<TargetLayer> examined_layers(const Network& network, const Hyperparameters& parameters) {
  std::vector<TargetLayer> layers = dense_layers(network);
  if (parameters.text("layers") == "last") layers = {layers.back()};
  return layers;
}

class Care {
 public:
  Care(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        layers_(examined_layers(original, parameters)),
        unit_values_(std::in_place, original, layers_) {}

  FixResult run() {
    FixResult result;
    saved_ = context_.load_checkpoint();
    std::vector<Unit> units;
    {
      const PhaseTimer timer(context_.log(), "localise");
      choose_inputs();
      if (negatives_.empty() || positives_.empty()) {
        result.failure = {"no_fix", negatives_.empty()
                                        ? "the repair split has no misclassified input"
                                        : "no input of " + source_ + " is classified correctly"};
        return result;
      }
      const auto found = saved_ ? saved_units() : locate();
      if (!found) {
        result.failure = {"timeout", "stopped before the first candidate was evaluated"};
        return result;
      }
      units = *found;
    }
    if (units.empty()) {
      result.failure = {"no_fix", "no unit has any effect on the misclassified inputs"};
      return result;
    }
    const PhaseTimer timer(context_.log(), "search");
    return search(units);
  }

 protected:
  std::vector<InputSet> inputs() const {
    return {{&context_.split("repair"), negatives_, true}, {&context_.split(source_), positives_, false}};
  }

  // D- and D+, fixed for all evaluations (CARE.md, Steps in this project, 1); the public code draws anew.
  void choose_inputs() {
    source_ = context_.has_split("train")        ? "train"
              : context_.has_split("validation") ? "validation"
                                                 : "repair";
    if (saved_) {
      negatives_ = locate::positions_of(saved_->at("negatives"));
      positives_ = locate::positions_of(saved_->at("positives"));
      const std::vector<int64_t> counts = locate::positions_of(saved_->at("repair"));
      wrong_ = counts.at(0);
      correct_ = counts.at(1);
    } else {
      judge_inputs();
    }
    context_.log().scalars["negatives"] = static_cast<double>(negatives_.size());
    context_.log().scalars["positives_from_" + source_] = static_cast<double>(positives_.size());
    context_.log().scalars["repair_faults"] = static_cast<double>(wrong_);
    context_.log().scalars["repair_correct"] = static_cast<double>(correct_);
  }

  // The passes that judge the inputs also collect what localisation needs of them.
  void judge_inputs() {
    const Split &repair = context_.split("repair"), &source = context_.split(source_);
    const Batching batching = context_.batching();
    const locate::Judgement judgement =
        locate::judge_split(original_, repair, batching, unit_values_->watch_negatives());
    wrong_ = std::ssize(judgement.wrong);
    correct_ = std::ssize(judgement.correct);
    RandomStream some_wrong = context_.stream("negatives"), some_right = context_.stream("positives");
    const int64_t positives = hyper_.integer("positives");
    negatives_ = locate::draw_at_most(judgement.wrong, hyper_.integer("negatives"), some_wrong);
    if (source_ == "repair") {
      positives_ = locate::draw_at_most(judgement.correct, positives, some_right);
      unit_values_->widen({&repair, positives_}, batching);
    } else {
      positives_ = locate::correct_inputs(original_, source, positives, batching, some_right,
                                          unit_values_->watch_positives());
    }
    if (negatives_.empty() || positives_.empty()) return;
    std::vector<int64_t> numbers;  // of the negatives among all faults
    for (const int64_t position : negatives_)
      numbers.push_back(std::ranges::lower_bound(judgement.wrong, position) - judgement.wrong.begin());
    const at::Tensor labels = judgement.labels.index_select(0, locate::position_table(negatives_));
    if (!unit_values_->take_negatives(numbers, labels))
      unit_values_->collect(search::SearchInputs(original_, inputs()), batching);
  }

  // What the rate of D+ is multiplied by, so that one broken input of whatever `weighting` counts weighs
  // alpha / (1 - alpha) repaired ones (CARE.md, Formulas).
  double positive_weight() const {
    const double alpha = hyper_.number("alpha"), odds = alpha / (1 - alpha);
    const std::string weighting = hyper_.text("weighting");
    const auto ratio = [](auto right, auto wrong) {
      return static_cast<double>(right) / static_cast<double>(wrong);
    };
    if (weighting == "population") return odds * ratio(correct_, wrong_);
    if (weighting == "per_input") return odds * ratio(positives_.size(), negatives_.size());
    if (weighting != "rates") interface_misuse("unknown weighting of CARE: " + weighting);
    return odds;
  }

  // The units whose value has the largest effect on the faults, over all layers; nothing when stopped.
  std::optional<std::vector<Unit>> locate() {
    const auto found =
        locate::intervention_effects(*unit_values_, {.values = hyper_.integer("intervention_values"),
                                                     .batch = context_.batch(),
                                                     .go_on = [this](double done) {
                                                       context_.progress(done, "localise");
                                                       return !context_.stop().requested();
                                                     }});
    unit_values_.reset();
    if (found.empty()) return std::nullopt;
    std::vector<Unit> all;
    std::vector<double> scores;
    for (size_t l = 0; l < found.size(); ++l) {
      const at::Tensor score = locate::unit_scores(found[l], hyper_.text("score"));
      for (int64_t i = 0; i < score.numel(); ++i) {
        all.push_back({static_cast<int64_t>(l), i});
        scores.push_back(score[i].item<double>());
      }
    }
    std::vector<Unit> units;
    for (const int64_t k : chosen(scores)) units.push_back(all[static_cast<size_t>(k)]);
    return units;
  }

  // The units with the highest scores above zero.
  virtual std::vector<int64_t> chosen(const std::vector<double>& scores) const {
    std::vector<int64_t> order;
    for (size_t k = 0; k < scores.size(); ++k) {
      if (scores[k] > 0) order.push_back(static_cast<int64_t>(k));
    }
    std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    order.resize(std::min(order.size(), static_cast<size_t>(hyper_.integer("units"))));
    return order;
  }

  // The columns of the kernels that read the units: multiplying them is multiplying the units.
  std::vector<WeightRef> columns_of(const std::vector<Unit>& units) {
    std::vector<WeightRef> weights;
    unit_of_weight_.clear();
    for (size_t k = 0; k < units.size(); ++k) {
      const ParameterId kernel = layers_[units[k].layer].weight;
      const at::IntArrayRef shape = original_.parameters()[kernel].value.sizes();
      for (int64_t j = 0; j < shape[0]; ++j) {
        weights.push_back({kernel, j * shape[1] + units[k].number});
        unit_of_weight_.push_back(k);
      }
    }
    weight_ = read_weights(original_, weights);
    return weights;
  }

  // Multipliers (K x units) to values of the weights (K x weights).
  std::vector<double> folded(std::span<const double> multipliers, size_t units) const {
    std::vector<double> values;
    for (size_t first = 0; first < multipliers.size(); first += units) {
      for (size_t w = 0; w < weight_.size(); ++w)
        values.push_back(multipliers[first + unit_of_weight_[w]] * static_cast<double>(weight_[w]));
    }
    return values;
  }

  // All particles start at the original (CARE.md, Steps in this project, 4).
  search::SwarmSettings swarm_settings(size_t units) const {
    return {.dimensions = std::vector<search::SwarmDimension>(units, search::SwarmDimension{.mean = 1}),
            .particles = hyper_.integer("particles"),
            .iterations = hyper_.integer("iterations"),
            .rule = search::Inertia{.inertia = hyper_.number("w"),
                                    .own = hyper_.number("c1"),
                                    .common = hyper_.number("c2"),
                                    .start_speed = 1,
                                    .low = hyper_.number("low"),
                                    .high = hyper_.number("high"),
                                    .tolerance = hyper_.number("ftol"),
                                    .patience = hyper_.integer("ftol_iterations")}};
  }

  FixResult search(const std::vector<Unit>& units) {
    const std::vector<WeightRef> weights = columns_of(units);
    const double weight = positive_weight();
    const search::CandidateEvaluator evaluator({.network = original_,
                                                .inputs = inputs(),
                                                .weights = weights,
                                                .objective = care_objective(weight),
                                                .batching = context_.batching(),
                                                .stop = context_.stop()});
    FixLog& log = context_.log();
    log.scalars["units"] = static_cast<double>(units.size());
    log.scalars["positive_weight"] = weight;
    log.scalars["touched_logits"] = evaluator.strategy() == "touched_logits";
    for (const Unit& unit : units) log.series["unit"].push_back(static_cast<double>(unit.number));
    return search::run_search(
        original_, context_,
        search::particle_swarm(swarm_settings(units.size()), context_.seed("search"),
                               [&](auto multipliers, auto fitness) {
                                 evaluator.evaluate(folded(multipliers, units.size()), fitness);
                               }),
        {.save = [&](CheckpointState& tensors) { save(units, tensors); }},
        [&](const search::SearchResult& found) {
          const std::vector<double> values = folded(found.best, units.size());
          const search::Verdict verdict = evaluator.judge(values);
          log.series["multiplier"] = found.best;
          log.scalars["negatives_fixed"] = static_cast<double>(verdict.negative.correct());
          log.scalars["positives_broken"] = static_cast<double>(verdict.positive.misses);
          // The particles start at the original, so that nothing worse can come out.
          return search::judged(evaluator, evaluator.original_fitness(), found.best_fitness, values,
                                /*keep_original=*/true);
        });
  }

  void save(const std::vector<Unit>& units, CheckpointState& tensors) const {
    tensors["negatives"] = locate::position_table(negatives_);
    tensors["positives"] = locate::position_table(positives_);
    tensors["repair"] = locate::position_table({wrong_, correct_});
    std::vector<int64_t> flat;
    for (const Unit& unit : units) flat.insert(flat.end(), {unit.layer, unit.number});
    tensors["units"] = locate::position_table(flat);
  }

  std::optional<std::vector<Unit>> saved_units() const {
    std::vector<Unit> units;
    const std::vector<int64_t> flat = locate::positions_of(saved_->at("units"));
    for (size_t k = 0; k < flat.size(); k += 2) units.push_back({flat[k], flat[k + 1]});
    return units;
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const std::vector<TargetLayer> layers_;
  std::optional<locate::UnitValues> unit_values_;  // until the units are found
  std::optional<CheckpointState> saved_;
  std::string source_;  // split of the positives
  std::vector<int64_t> negatives_, positives_;
  int64_t wrong_ = 0, correct_ = 0;     // of the whole repair split
  std::vector<float> weight_;           // original values of the columns
  std::vector<size_t> unit_of_weight_;  // which unit's column each belongs to
};

// RAND:CARE: as many units, of all layers.
class RandomCare final : public Care {
 public:
  using Care::Care;

 protected:
  std::vector<int64_t> chosen(const std::vector<double>& scores) const override {
    return context_.stream("random_units").sample(std::ssize(scores), std::ssize(Care::chosen(scores)));
  }
};

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string hyper = "public code, sunbingsmu/care (Sun et al., ICSE 2022)",
                    adaptation = "our choice: the public code repairs other faults than wrong classes";
  return {
      choice_spec("layers", "last", "dense layers whose inputs are examined", adaptation,
                  {"last", "all_dense"}),
      integer_spec("intervention_values", 4, "values that each unit is set to", "values", hyper, 2),
      choice_spec("score", "range",
                  "of a unit's effects: largest less least, or mean distance from their mean", adaptation,
                  {"range", "mean_abs_dev"}),
      integer_spec("units", 5, "units with the highest score that get a multiplier", "units", hyper, 1),
      integer_spec("negatives", 1000, "most misclassified inputs; 0: all", "inputs", adaptation, 0),
      integer_spec("positives", 1000, "most correctly classified inputs; 0: all", "inputs", adaptation, 0),
      number_spec("alpha", kAlpha, "weight of the accuracy lost; 1 - alpha is that of the faults left",
                  "our choice, within the 0.1 to 0.3 of the " + hyper, 0, 0.99),
      choice_spec(
          "weighting", "population",
          "what alpha weighs: inputs of the repair split, inputs of both samples, or the samples' rates",
          "our choice: the public code counts faults and correct inputs over the same images",
          {"population", "per_input", "rates"}),
      integer_spec("particles", 20, "particles of the swarm", "particles", hyper, 1),
      integer_spec("iterations", 100, "most iterations", "iterations", hyper, 1),
      number_spec("w", 0.8, "inertia: part of its speed that a particle keeps", hyper, 0, 2),
      number_spec("c1", 0.41, "pull of a particle's own best", hyper, 0, 10),
      number_spec("c2", 0.41, "pull of the swarm's best", hyper, 0, 10),
      number_spec("low", -10, "least multiplier; the box is periodic", hyper, -1e6, 1),
      number_spec("high", 10, "greatest multiplier", hyper, 1, 1e6),
      number_spec("ftol", 1e-3, "relative change of the best that counts as none", hyper, 0, 1),
      integer_spec("ftol_iterations", 10, "stop after as many iterations without change", "iterations", hyper,
                   1),
  };
}

const bool registered = register_approach({
    .info = {.key = "CARE",
             .name = "CARE",
             .level = Level::neuron,
             .basis = Basis::adaptation,
             .publication = "ICSE 2022",
             .version = 2,
             .needs = {"repair"},
             .uses = {"train", "validation"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = refuse_without_dense_layers,
    .fix = [](const Network& original,
              FixContext& context) { return Care(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomCare(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

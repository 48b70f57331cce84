// AR, Arachne, the generation of 2023: bidirectional localisation and differential evolution
// (approaches/docs/AR.md).
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/impact.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/search/pareto.hpp"
#include "approaches/search/run_search.hpp"
#include "approaches/search/split_pass.hpp"
#include "approaches/search/verified_best.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// Positions in the repair split.
struct Sets {
  std::vector<int64_t> positives, negatives;
  std::vector<int64_t> searched, left_out;  // the positives, apart
};

class Arachne {
 public:
  Arachne(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        layers_(target_layers(original)) {}

  FixResult run() {
    FixResult result;
    std::vector<WeightRef> weights;
    {
      const PhaseTimer timer(context_.log(), "localise");
      pass_.emplace(original_, split_, context_.batching());
      RandomStream stream = context_.stream("localise");
      choose_sets(stream);
      if (sets_.negatives.empty()) {
        result.failure = {"no_fix", "the repair split has no misclassified input of the chosen kind"};
        return result;
      }
      const auto& saved = context_.load_checkpoint();
      weights = saved ? weights_of(saved->at("weights")) : locate(pass_->judgement(), stream);
    }
    if (weights.empty()) {
      result.failure = {"no_fix", "no weight has any impact on the misclassified inputs"};
      return result;
    }
    const PhaseTimer timer(context_.log(), "search");
    result = search(weights);
    if (result.network) add_notes(result.note);
    return result;
  }

 protected:
  void choose_sets(RandomStream& stream) {
    const locate::Judgement& judgement = pass_->judgement();
    const locate::NegativeChoice choice{.which = hyper_.text("negatives"),
                                        .fraction = hyper_.number("negative_fraction"),
                                        .pair_rank = hyper_.integer("pair_rank")};
    sets_.negatives = locate::choose_negatives(judgement, choice, stream);
    sets_.positives = sets_.searched = judgement.correct;
    const auto& saved = context_.load_checkpoint();
    if (saved) {
      sets_.searched = locate::positions_of(saved->at("searched"));
    } else if (hyper_.integer("positives") > 0) {
      sets_.searched = pass_->narrowest(judgement.correct, hyper_.integer("positives"));
    }
    std::ranges::set_difference(sets_.positives, sets_.searched, std::back_inserter(sets_.left_out));
    context_.log().scalars["negatives"] = static_cast<double>(sets_.negatives.size());
    context_.log().scalars["positives"] = static_cast<double>(sets_.positives.size());
    context_.log().scalars["positives_searched"] = static_cast<double>(sets_.searched.size());
  }

  void add_notes(std::string& note) const {
    const auto add = [&](const std::string& text) { note += (note.empty() ? "" : "; ") + text; };
    if (!sets_.left_out.empty()) {
      add("searched on the " + std::to_string(sets_.searched.size()) + " most narrowly correct inputs of " +
          std::to_string(sets_.positives.size()) + ", each generation's best verified on the others");
    }
    if (hyper_.boolean("compat_softmax") && !original_.ends_in_softmax())
      add("compat_softmax had no effect: the model does not end in a softmax");
  }

  // The weights on the Pareto front of both scores, over all layers.
  virtual std::vector<WeightRef> locate(const locate::Judgement& judgement, RandomStream& stream) {
    context_.progress(0, "localise");
    const locate::ImpactSettings settings{.compat_softmax = hyper_.boolean("compat_softmax"),
                                          .conv_per_sample = hyper_.text("conv_front") == "per_sample",
                                          .batching = context_.batching()};
    const std::vector<int64_t> positives =
        locate::matching_positives(judgement, static_cast<int64_t>(sets_.negatives.size()), stream);
    const auto of_negatives = locate::weight_scores(original_, layers_, split_, sets_.negatives, settings);
    const auto of_positives = locate::weight_scores(original_, layers_, split_, positives, settings);
    // The front of all weights is the front of the layers' fronts.
    std::vector<WeightRef> weights;
    std::vector<double> gradient, impact;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const at::Tensor costs[] = {
          (of_negatives[l].gradient_loss / (1 + of_positives[l].gradient_loss)).contiguous(),
          (of_negatives[l].forward_impact / (1 + of_positives[l].forward_impact)).contiguous()};
      const auto span = [](const at::Tensor& cost) {
        return std::span<const double>(cost.data_ptr<double>(), cost.numel());
      };
      for (const int64_t index : search::pareto_front(span(costs[0]), span(costs[1]))) {
        weights.push_back({layers_[l].weight, index});
        gradient.push_back(span(costs[0])[index]);
        impact.push_back(span(costs[1])[index]);
      }
    }
    std::vector<WeightRef> front;
    for (const int64_t k : search::pareto_front(gradient, impact)) front.push_back(weights[k]);
    return front;
  }

  search::EvolutionSettings evolution_settings(const std::vector<WeightRef>& weights) const {
    search::EvolutionSettings settings{.population = hyper_.integer("population"),
                                       .generations = hyper_.integer("generations"),
                                       .factor_low = hyper_.number("mutation_low"),
                                       .factor_high = hyper_.number("mutation_high"),
                                       .crossover = hyper_.number("crossover"),
                                       .generational = hyper_.text("update") == "generational"};
    settings.patience = hyper_.is_null("patience") ? std::max<int64_t>(10, settings.generations / 10)
                                                   : hyper_.integer("patience");
    std::map<ParameterId, search::Dimension> of_kernel;
    for (const WeightRef& weight : weights) {
      const auto [place, is_new] = of_kernel.try_emplace(weight.parameter);
      if (is_new) place->second = dimension_of(original_.parameters()[weight.parameter].value);
      settings.dimensions.push_back(place->second);
    }
    return settings;
  }
  static search::Dimension dimension_of(const at::Tensor& weight) {
    const at::Tensor kernel = weight.detach().to(at::kCPU, at::kDouble);
    const double low = kernel.min().item<double>(), high = kernel.max().item<double>();
    return {.low = low < 0 ? 2 * low : low / 2,
            .high = high > 0 ? 2 * high : high / 2,
            .mean = kernel.mean().item<double>(),
            .deviation = kernel.std(/*unbiased=*/false).item<double>()};
  }

  // What judges candidates on some positives and some negatives.
  search::CandidateEvaluator::Setup evaluation(const std::vector<WeightRef>& weights,
                                               const std::vector<int64_t>& positives,
                                               const std::vector<int64_t>& negatives) const {
    std::vector<int64_t> all = positives;
    all.insert(all.end(), negatives.begin(), negatives.end());
    return {.network = original_,
            .inputs = {{&split_, positives, false}, {&split_, negatives, true}},
            .weights = weights,
            .objective = search::arachne_objective(hyper_.number("alpha"), hyper_.boolean("compat_softmax")),
            .batching = context_.batching(),
            .stop = context_.stop(),
            .known = pass_->known(all)};
  }

  FixResult search(const std::vector<WeightRef>& weights) {
    const search::CandidateEvaluator evaluator(evaluation(weights, sets_.searched, sets_.negatives));
    std::optional<search::CandidateEvaluator> rest;
    std::optional<search::VerifiedBest> verified;
    if (!sets_.left_out.empty()) {
      rest.emplace(evaluation(weights, sets_.left_out, {}));
      verified.emplace(*rest);
      if (const auto& saved = context_.load_checkpoint()) verified->load(*saved);
    }
    pass_.reset();  // the evaluators have what they want of it
    FixLog& log = context_.log();
    log.scalars["front_size"] = static_cast<double>(weights.size());
    log.scalars["touched_logits"] = evaluator.strategy() == "touched_logits";
    const double original_fitness = evaluator.original_fitness() + (rest ? rest->original_fitness() : 0);
    log.scalars["original_fitness"] = original_fitness;
    // An original whose fitness is not a number is no better than a candidate that has one.
    const bool keep_original = hyper_.boolean("keep_original") && !std::isnan(original_fitness);

    search::EvolutionSettings settings = evolution_settings(weights);
    settings.together = evaluator.together();
    settings.details = search::kDetails;
    std::vector<search::Verdict> verdicts;  // of the last call
    search::EvolutionHooks hooks{.details = [&](int64_t k, std::span<double> details) {
      std::ranges::copy(search::details_of(verdicts[static_cast<size_t>(k)]), details.begin());
    }};
    if (verified) hooks.settle = [&](const auto& state, const auto& best) { verified->settle(state, best); };
    const search::Optimiser evolution = search::differential_evolution(
        settings, context_.seed("search"),
        [&](auto candidates, auto floors, auto fitness) {
          verdicts.assign(fitness.size(), {});
          evaluator.evaluate(candidates, floors, fitness, verdicts);
        },
        hooks);
    const search::Optimiser optimiser = [&](const search::SearchWatch& watch) {
      search::SearchResult found = evolution(watch);
      if (!verified) return found;
      found.found = verified->any();
      found.best = verified->values();
      found.best_fitness = verified->fitness();
      found.details = verified->details();
      log.series["verified_fitness"] = verified->series();
      return found;
    };
    const search::SearchStage stage{
        .first = verified ? "population was complete and its best verified" : "population was complete",
        .save = [&](CheckpointState& tensors) {
          tensors["weights"] = weight_table(weights);
          tensors["searched"] = locate::position_table(sets_.searched);
          if (verified) verified->save(tensors);
        }};
    return search::run_search(original_, context_, optimiser, stage, [&](const search::SearchResult& found) {
      log.scalars["negatives_fixed"] = found.details[0];
      log.scalars["positives_broken"] = found.details[1];
      return search::judged(evaluator, original_fitness, found.best_fitness, found.best, keep_original);
    });
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const std::vector<TargetLayer> layers_;
  std::optional<search::SplitPass> pass_;  // of the original, until the search begins
  Sets sets_;
};

// RAND:AR: as many weights as are on the front, of all layers.
class RandomArachne final : public Arachne {
 public:
  using Arachne::Arachne;

 protected:
  std::vector<WeightRef> locate(const locate::Judgement& judgement, RandomStream& stream) override {
    const std::vector<WeightRef> front = Arachne::locate(judgement, stream);
    RandomStream chance = context_.stream("random_weights");
    return random_weights(original_, layers_, std::ssize(front), chance);
  }
};

const std::string kCode = "public code, coinse/arachne (Sohn et al., TOSEM 2023)";

std::vector<HyperparameterSpec> hyperparameter_specs() {
  HyperparameterSpec patience = integer_spec("patience", 10,
                                             "stop after more generations than this without change; null: "
                                             "max(10, generations / 10)",
                                             "generations", kCode, 0);
  patience.default_value = nullptr;
  patience.nullable = true;
  return {
      choice_spec("negatives", "fraction", "which misclassified inputs are to be fixed",
                  kCode + ": its experiments", {"all", "fraction", "pair"}),
      number_spec("negative_fraction", 0.1, "share of the misclassified inputs (negatives = fraction)", kCode,
                  0, 1),
      integer_spec("pair_rank", 1, "n-th most frequent pair of label and prediction (negatives = pair)",
                   "rank", kCode, 1),
      number_spec("alpha", 10, "weight of the inputs to be fixed in the fitness", kCode, 0, 1e6),
      integer_spec("positives", 0,
                   "search on so many correctly classified inputs, the narrowest, and verify each "
                   "generation's best on all; 0: search on all",
                   "inputs", "our choice: an approximation for large models", 0),
      integer_spec("population", 100, "size of the population", "candidates", kCode, 4),
      integer_spec("generations", 100, "most generations", "generations", kCode, 0),
      number_spec("mutation_low", 0.5, "least mutation factor, one drawn per generation", kCode, 0, 2),
      number_spec("mutation_high", 1, "greatest mutation factor", kCode, 0, 2),
      number_spec("crossover", 0.7, "probability that a dimension is exchanged", kCode, 0, 1),
      patience,
      choice_spec("update", "asynchronous", "replace individuals at once, or after the generation",
                  kCode + "; generational: our choice, for GPUs", {"asynchronous", "generational"}),
      choice_spec("conv_front", "reference",
                  "share of a convolution's weight: of the whole set, or of each input",
                  kCode + "; per_sample: our choice", {"reference", "per_sample"}),
      boolean_spec("compat_softmax", false,
                   "losses and impacts on the softmax's output instead of the logits; no effect on "
                   "models that end in logits",
                   "our choice; true: " + kCode),
      boolean_spec("keep_original", true, "return the original when no candidate is better",
                   "our choice; false: " + kCode),
  };
}

const bool registered = register_approach({
    .info = {.key = "AR",
             .name = "Arachne",
             .level = Level::neuron,
             .basis = Basis::reference_code,
             .publication = "ACM TOSEM 2023",
             .version = 5,
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = refuse_without_targets,
    .fix = [](const Network& original,
              FixContext& context) { return Arachne(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomArachne(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

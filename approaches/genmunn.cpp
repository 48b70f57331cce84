// GM, GenMuNN: mutants of the most influential weights of one layer after the other, a genetic search over
// them (approaches/docs/GM.md).
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/layer_rankings.hpp"
#include "approaches/search/edit_evaluator.hpp"
#include "approaches/search/run_search.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

class GenMuNN {
 public:
  GenMuNN(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original), context_(context), hyper_(parameters), values_(original) {}

  FixResult run() {
    {
      const PhaseTimer timer(context_.log(), "localise");
      for (const std::string& name : fit_splits()) {
        judgements_.push_back(locate::judge_split(original_, context_.split(name), context_.batching()));
      }
      if (judgements_[0].wrong.empty()) {
        FixResult result;
        result.network = original_.fork();
        result.note = "returned the original: it misclassifies no input of the repair split";
        return result;
      }
      make_rankings();
      if (const auto& saved = context_.load_checkpoint()) rankings_->load(*saved);
    }
    return search();
  }

 protected:
  std::vector<std::string> fit_splits() const {
    if (hyper_.boolean("add_validation")) return {"repair", "validation"};
    return {"repair"};
  }

  void make_rankings() {
    std::vector<TargetLayer> layers = target_layers(original_);
    std::reverse(layers.begin(), layers.end());  // from the output on
    rankings_.emplace(locate::LayerRankings::Setup{.original = original_,
                                                   .layers = std::move(layers),
                                                   .inputs = rank_sets(),
                                                   .rank = hyper_.text("rank"),
                                                   .knockout_units = hyper_.integer("knockout_units"),
                                                   .mutants = mutant_settings(),
                                                   .batch = context_.batch()});
  }

  // The misclassified inputs of the repair split and as many others, seeded.
  std::vector<InputSet> rank_sets() const {
    const auto size = [](const std::vector<int64_t>& set) { return static_cast<int64_t>(set.size()); };
    const int64_t faults = std::min(size(judgements_[0].wrong), hyper_.integer("rank_inputs") / 2);
    RandomStream stream = context_.stream("rank_inputs");
    std::vector<InputSet> sets;
    for (const bool negative : {true, false}) {
      const std::vector<int64_t>& from = negative ? judgements_[0].wrong : judgements_[0].correct;
      InputSet set{.split = &context_.split("repair"), .positions = {}, .negative = negative};
      for (const int64_t k : stream.sample(size(from), std::min(size(from), faults))) {
        set.positions.push_back(from[static_cast<size_t>(k)]);
      }
      std::sort(set.positions.begin(), set.positions.end());
      sets.push_back(std::move(set));
    }
    return sets;
  }

  int64_t layer_of(int64_t generation) const {
    if (hyper_.text("layer") == "backwards") return generation % rankings_->size();
    return context_.stream("layer/" + std::to_string(generation)).below(rankings_->size());
  }

  search::MutantSettings mutant_settings() const {
    return {.share = hyper_.number("rho"),
            .sigma = hyper_.number("sigma"),
            .fuzz = hyper_.number("fuzz"),
            .negate = hyper_.number("negate"),
            .zero = hyper_.number("zero"),
            .shuffle = hyper_.number("shuffle")};
  }

  // Ranks the layer that the generation mutates; false when stopped on the way.
  virtual bool rank(const search::GeneticState& state,
                    const std::function<void(const std::string&)>& between) {
    const PhaseTimer timer(context_.log(), "localise");
    const int64_t rerank = hyper_.integer("rerank");
    if (rerank > 0 && state.generation > 0 && state.generation % rerank == 0) {
      rankings_->begin_anew(state.population[0], state.generation);
    }
    return rankings_->rank(layer_of(state.generation), context_.stop(), [&] { between("rank"); });
  }

  search::EditEvaluator make_evaluator() const {
    const PhaseTimer timer(context_.log(), "search");
    return search::EditEvaluator({.network = original_,
                                  .inputs = fit_sets(),
                                  .objective = {.measure = search::Measure::losses, .value = {}},
                                  .batch = context_.batch()});
  }

  FixResult search() {
    search::EditEvaluator evaluator = make_evaluator();
    const search::MutantSettings mutation = mutant_settings();
    search::GeneticSettings settings{.population = hyper_.integer("population"),
                                     .elites = 0,
                                     .tournament = hyper_.integer("tournament"),
                                     .crossover = hyper_.number("crossover"),
                                     .generations = hyper_.integer("generations"),
                                     .stall = hyper_.integer("stall"),
                                     .perfect = evaluator.inputs().size()};
    settings.elites = std::min(hyper_.integer("elites"), settings.population - 1);
    const search::GeneticProblem problem{
        .mutate =
            [&](const Edits& parent, int64_t generation, RandomStream& stream) {
              return search::mutant(parent, rankings_->layer(layer_of(generation)), mutation, values_,
                                    stream);
            },
        .group = [&](std::span<const Edits> individuals) { return evaluator.groups(individuals); },
        .evaluate =
            [&](std::span<const Edits> individuals, std::span<search::GeneticScore> scores) {
              const PhaseTimer timer(context_.log(), "search");
              return evaluate(evaluator, individuals, scores);
            }};
    return search::run_search(
        original_, context_,
        search::genetic_search(
            settings, context_.seed("search"), problem,
            [this](const search::GeneticState& state, const auto& between) { return rank(state, between); }),
        {.measured = "correct",
         .first = "population was evaluated",
         .save = [this](CheckpointState& tensors) { rankings_->save(tensors); }},
        [this](const search::SearchResult& found) { return judge(found.best_edits, found.best_score); });
  }

  std::vector<InputSet> fit_sets() const {
    std::vector<InputSet> sets;
    for (size_t s = 0; s < judgements_.size(); ++s) {
      const Split* split = &context_.split(fit_splits()[s]);
      sets.push_back({.split = split, .positions = judgements_[s].correct, .negative = false});
      sets.push_back({.split = split, .positions = judgements_[s].wrong, .negative = true});
    }
    return sets;
  }

  bool evaluate(search::EditEvaluator& evaluator, std::span<const Edits> individuals,
                std::span<search::GeneticScore> scores) const {
    std::vector<search::Verdict> verdicts(individuals.size());
    if (!evaluator.judge(individuals, verdicts, context_.stop())) return false;
    for (size_t k = 0; k < scores.size(); ++k) {
      const search::Tally &kept = verdicts[k].positive, &fixed = verdicts[k].negative;
      scores[k].correct = kept.correct() + fixed.correct();
      scores[k].loss = (kept.loss + fixed.loss) / static_cast<double>(evaluator.inputs().size());
    }
    return true;
  }

  // Counted by a pass through the whole network, as the evaluation will: near ties, the search's products may
  // see one input differently.
  search::Judged judge(const Edits& best, const search::GeneticScore& score) const {
    const PhaseTimer timer(context_.log(), "search");
    Network fixed = original_.fork();
    apply_edits(fixed, best);
    const int64_t before = correct_of(original_), after = correct_of(fixed);
    search::Judged judged{
        .original = static_cast<double>(before), .best = static_cast<double>(after), .edits = best};
    if (after <= before) {
      judged.limitation = "no mutant classifies more inputs correctly";
    } else if (hyper_.boolean("guard") && loses_validation(fixed)) {
      judged.limitation = "the best mutant loses accuracy on the validation split";
    }
    FixLog& log = context_.log();
    log.scalars["best_loss"] = score.loss;
    log.scalars["changed_weights"] = judged.limitation.empty() ? static_cast<double>(best.size()) : 0;
    return judged;
  }

  int64_t correct_of(const Network& network) const {
    int64_t correct = 0;
    for (const std::string& name : fit_splits()) correct += correct_on(network, name);
    return correct;
  }
  int64_t correct_on(const Network& network, const std::string& split) const {
    return static_cast<int64_t>(
        locate::judge_split(network, context_.split(split), context_.batch()).correct.size());
  }
  bool loses_validation(const Network& network) const {
    return correct_on(network, "validation") < correct_on(original_, "validation");
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const search::OriginalValues values_;
  std::vector<locate::Judgement> judgements_;      // of the original, on the splits that the fitness counts
  std::optional<locate::LayerRankings> rankings_;  // in the order in which layers are mutated
};

// RAND:GM: nothing is ranked, so that weights and units are drawn uniformly.
class RandomGenMuNN final : public GenMuNN {
 public:
  using GenMuNN::GenMuNN;

 protected:
  bool rank(const search::GeneticState&, const std::function<void(const std::string&)>&) override {
    return true;
  }
};

const std::string kChoice = "our choice: of Wu et al., IJMSSC 2022, there is no public code";

std::vector<HyperparameterSpec> hyperparameter_specs() {
  return {
      integer_spec("population", 20, "size of the population", "individuals", kChoice, 2),
      integer_spec("elites", 2, "best individuals that survive unchanged; at most population - 1",
                   "individuals", kChoice, 1),
      integer_spec("tournament", 3, "contestants to be a parent", "individuals", kChoice, 1),
      number_spec("crossover", 0.5, "probability that a child has two parents", kChoice, 0, 1),
      number_spec("rho", 0.01, "share of a layer's weights mutated at a time",
                  "our choice: as the example of the public code wellido/mutation_tool", 0, 1),
      number_spec("sigma", 0.1, "deviation of the relative noise", kChoice, 0, 100),
      integer_spec("generations", 100, "most generations", "generations", kChoice, 0),
      integer_spec("stall", 20, "stop after so many generations without more correct inputs", "generations",
                   kChoice, 1),
      integer_spec("rank_inputs", 2000, "most inputs the ranking is computed on", "inputs", kChoice, 2),
      choice_spec("rank", "default",
                  "units by knock-out and weights by |w dL/dw|; |w dL/dw| alone; weights by knock-out; |w|",
                  kChoice, {"default", "taylor", "knockout", "magnitude"}),
      integer_spec("knockout_units", 512, "layers with more units are ranked by taylor (rank = default)",
                   "units", kChoice, 0),
      integer_spec("rerank", 0, "rank anew, on the best individual, every so many generations; 0: never",
                   "generations", kChoice, 0),
      choice_spec("layer", "backwards", "layer a generation mutates: from the output on in turn, or drawn",
                  kChoice, {"backwards", "random"}),
      number_spec("fuzz", 0.7, "how often weights get relative noise, relative to the other operators",
                  kChoice, 0, 1),
      number_spec("negate", 0.1, "how often a unit's weights and bias are negated", kChoice, 0, 1),
      number_spec("zero", 0.1, "how often a unit's weights and bias are set to zero", kChoice, 0, 1),
      number_spec("shuffle", 0.1, "how often a unit's weights are shuffled", kChoice, 0, 1),
      boolean_spec("add_validation", false, "count the validation split in the fitness too", kChoice),
      boolean_spec("guard", false, "return the original if the validation accuracy falls", kChoice),
  };
}

std::optional<Refusal> adapt(const FixRequest& request) {
  const bool wanted =
      request.hyperparameters.boolean("guard") || request.hyperparameters.boolean("add_validation");
  if (wanted && !request.data->has("validation")) return Refusal{"missing_split", "validation"};
  return refuse_without_targets(request);
}

const bool registered = register_approach({
    .info = {.key = "GM",
             .name = "GenMuNN",
             .level = Level::neuron,
             .basis = Basis::reconstruction,
             .publication = "IJMSSC 2022",
             .version = 2,
             .needs = {"repair"},
             .uses = {"validation"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return GenMuNN(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomGenMuNN(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

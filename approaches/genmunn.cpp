// GM, GenMuNN: mutants of the most influential weights of one layer after the other, a genetic search over
// them (approaches/docs/GM.md).
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/layer_rankings.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/search/edit_evaluator.hpp"
#include "approaches/search/run_search.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

constexpr int64_t kStall = 20;

// How many inputs of a split are correct.
struct Correct {
  int64_t repair = 0, validation = 0;  // validation: where it has a say
};

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
      count_original();
      make_rankings();
      if (const auto& saved = context_.load_checkpoint()) load(*saved);
    }
    return search();
  }

 protected:
  std::vector<std::string> fit_splits() const {
    if (hyper_.boolean("add_validation")) return {"repair", "validation"};
    return {"repair"};
  }

  bool guarded() const {
    const std::string guard = hyper_.text("guard");
    return guard == "on" || (guard == "auto" && context_.has_split("validation"));
  }

  void make_rankings() {
    std::vector<TargetLayer> layers = target_layers(original_);
    std::reverse(layers.begin(), layers.end());  // from the output on
    rankings_.emplace(locate::LayerRankings::Setup{.original = original_,
                                                   .layers = std::move(layers),
                                                   .inputs = rank_sets(),
                                                   .rank = hyper_.text("rank"),
                                                   .knockout_passes = hyper_.number("knockout_passes"),
                                                   .mutants = mutant_settings(),
                                                   .batch = context_.batch()});
  }

  // The misclassified inputs of the repair split and as many others, seeded.
  std::vector<InputSet> rank_sets() const {
    const int64_t faults = std::min(size_of(judgements_[0].wrong), hyper_.integer("rank_inputs") / 2);
    RandomStream stream = context_.stream("rank_inputs");
    std::vector<InputSet> sets;
    for (const bool negative : {true, false}) {
      const std::vector<int64_t>& from = negative ? judgements_[0].wrong : judgements_[0].correct;
      InputSet set{.split = &context_.split("repair"), .positions = {}, .negative = negative};
      for (const int64_t k : stream.sample(size_of(from), std::min(size_of(from), faults))) {
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

  int64_t stall() const {
    if (hyper_.is_null("stall")) return std::max(kStall, rankings_->size());
    return hyper_.integer("stall");
  }

  search::EditEvaluator make_evaluator() const {
    const PhaseTimer timer(context_.log(), "search");
    return search::EditEvaluator({.network = original_,
                                  .inputs = fit_sets(),
                                  .objective = {.measure = search::Measure::losses, .value = {}},
                                  .batching = context_.batching()});
  }

  FixResult search() {
    search::EditEvaluator evaluator = make_evaluator();
    const search::MutantSettings mutation = mutant_settings();
    search::GeneticSettings settings{.population = hyper_.integer("population"),
                                     .elites = 0,
                                     .tournament = hyper_.integer("tournament"),
                                     .crossover = hyper_.number("crossover"),
                                     .generations = hyper_.integer("generations"),
                                     .stall = stall(),
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
            [&](std::span<const Edits> individuals, const search::GeneticScore& floor,
                std::span<search::GeneticScore> scores) {
              const PhaseTimer timer(context_.log(), "search");
              return evaluate(evaluator, individuals, floor, scores);
            }};
    FixResult result = search::run_search(
        original_, context_,
        search::genetic_search(settings, context_.seed("search"), problem,
                               [&](const search::GeneticState& state, const auto& between) {
                                 const bool last = search::finished(state, settings);
                                 return check(state, last) && (last || rank(state, between));
                               }),
        {.measured = "correct",
         .first = "population was evaluated",
         .save = [this](CheckpointState& tensors) { save(tensors); }},
        [this](const search::SearchResult& found) { return judge(found); });
    if (!fell_back_.empty())
      result.note += (result.note.empty() ? "" : "; ") + fell_back_ + ", an earlier one is returned";
    return result;
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
                const search::GeneticScore& floor, std::span<search::GeneticScore> scores) const {
    const auto score_of = [&](const search::Verdict& verdict) {
      const search::Tally &kept = verdict.positive, &fixed = verdict.negative;
      return search::GeneticScore{
          .correct = kept.correct() + fixed.correct(),
          .loss = (kept.loss + fixed.loss) / static_cast<double>(evaluator.inputs().size())};
    };
    std::vector<search::Verdict> verdicts(individuals.size());
    const bool finished = evaluator.judge(
        individuals, verdicts, context_.stop(),
        [&](const search::Verdict& verdict) { return search::falls_below(score_of(verdict), floor); });
    if (!finished) return false;
    for (size_t k = 0; k < scores.size(); ++k) {
      scores[k] = score_of(verdicts[k]);
      scores[k].left = search::falls_below(scores[k], floor);
    }
    return true;
  }

  // A mutant is counted by plain passes, as the evaluation will: near ties, the search's products may see one
  // input differently, and they say nothing of the validation split. That is done while the search goes on,
  // for each best individual with more correct inputs than the one before and for the last of all, so that a
  // stop leaves nothing to compute. False: stopped on the way.
  bool check(const search::GeneticState& state, bool last) {
    if (state.population.empty()) return true;
    const Edits& best = state.population[0];
    const search::GeneticScore& score = state.scores[0];
    if (last ? best == counted_ : score.correct <= counted_score_.correct) return true;
    const PhaseTimer timer(context_.log(), "search");
    Network fixed = original_.fork();
    apply_edits(fixed, best);
    try {
      after_ = count(fixed, {context_.batch(), context_.stop()});
    } catch (const FixStopped&) {
      return false;
    }
    counted_ = best;
    counted_score_ = score;
    if (limitation_of(after_).empty() && (accepted_.empty() || gain_of(after_) >= gain_of(accepted_after_))) {
      accepted_ = counted_;
      accepted_after_ = after_;
      accepted_score_ = score;
    }
    return true;
  }

  Correct count(const Network& network, const Batching& batching) const {
    return {.repair = correct_on(network, "repair", batching),
            .validation = validation_counts() ? correct_on(network, "validation", batching) : 0};
  }
  int64_t correct_on(const Network& network, const char* split, const Batching& batching) const {
    return size_of(locate::judge_split(network, context_.split(split), batching).correct);
  }
  static int64_t size_of(const std::vector<int64_t>& set) { return static_cast<int64_t>(set.size()); }
  void count_original() {
    before_.repair = size_of(judgements_[0].correct);
    if (judgements_.size() > 1) {
      before_.validation = size_of(judgements_[1].correct);
    } else if (validation_counts()) {
      before_.validation = correct_on(original_, "validation", context_.batching());
    }
    after_ = before_;
    counted_score_.correct = fitted(before_);
  }
  bool validation_counts() const { return guarded() || hyper_.boolean("add_validation"); }
  int64_t fitted(const Correct& correct) const {
    return correct.repair + (hyper_.boolean("add_validation") ? correct.validation : 0);
  }

  int64_t gain_of(const Correct& after) const {
    const int64_t apart = after.validation - before_.validation;
    return fitted(after) - fitted(before_) + (guarded() && !hyper_.boolean("add_validation") ? apart : 0);
  }
  // Why a mutant that was counted so is not accepted; empty: it is (GM.md, Steps in this project, 7).
  std::string limitation_of(const Correct& after) const {
    if (guarded() && after.validation < before_.validation)
      return "the best mutant loses accuracy on the validation split";
    if (guarded() && after.repair < before_.repair)
      return "the best mutant loses accuracy on the repair split";
    return gain_of(after) > 0 ? "" : "no mutant classifies more inputs correctly";
  }

  // The last best mutant decides; where it is not accepted, the best of the earlier ones that were.
  search::Judged judge(const search::SearchResult& found) {
    const bool uncounted = found.best_score.correct > counted_score_.correct;  // after a stop
    std::string limitation = limitation_of(after_);
    if (uncounted && (limitation.empty() || !accepted_.empty())) {
      fell_back_ = "the best mutant could not be counted any more";
    } else if (!limitation.empty() && !accepted_.empty()) {
      fell_back_ = limitation;
    } else if (uncounted && gain_of(after_) == 0) {
      limitation = "the best mutant could not be counted before the stop";
    }
    if (!limitation.empty() && !accepted_.empty()) {
      limitation.clear();
      counted_ = accepted_;
      after_ = accepted_after_;
      counted_score_ = accepted_score_;
    }
    search::Judged judged{.original = static_cast<double>(fitted(before_)),
                          .best = static_cast<double>(fitted(after_)),
                          .edits = counted_};
    judged.limitation = limitation;
    FixLog& log = context_.log();
    log.scalars["repair_gain"] = static_cast<double>(after_.repair - before_.repair);
    if (validation_counts())
      log.scalars["validation_gain"] = static_cast<double>(after_.validation - before_.validation);
    log.scalars["best_loss"] = (counted_.empty() ? found.best_score : counted_score_).loss;
    log.scalars["changed_weights"] = judged.limitation.empty() ? static_cast<double>(counted_.size()) : 0;
    return judged;
  }

  static void save_counted(const std::string& name, const Edits& edits, const Correct& correct,
                           const search::GeneticScore& score, CheckpointState& tensors) {
    if (edits.empty()) return;
    search::save_edits(std::span(&edits, 1), name, tensors);
    tensors[name + ".correct"] =
        at::tensor(std::vector<int64_t>{correct.repair, correct.validation, score.correct}, at::kLong);
    tensors[name + ".loss"] = at::scalar_tensor(score.loss, at::kDouble);
  }
  static void load_counted(const std::string& name, const CheckpointState& tensors, Edits& edits,
                           Correct& correct, search::GeneticScore& score) {
    if (tensors.count(name + ".correct") == 0) return;
    edits = search::load_edits(name, tensors)[0];
    const std::vector<int64_t> numbers = locate::positions_of(tensors.at(name + ".correct"));
    correct = {.repair = numbers[0], .validation = numbers[1]};
    score = {.correct = numbers[2], .loss = tensors.at(name + ".loss").item<double>()};
  }
  void save(CheckpointState& tensors) const {
    rankings_->save(tensors);
    save_counted("counted", counted_, after_, counted_score_, tensors);
    save_counted("accepted", accepted_, accepted_after_, accepted_score_, tensors);
  }
  void load(const CheckpointState& tensors) {
    rankings_->load(tensors);
    load_counted("counted", tensors, counted_, after_, counted_score_);
    load_counted("accepted", tensors, accepted_, accepted_after_, accepted_score_);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const search::OriginalValues values_;
  std::vector<locate::Judgement> judgements_;  // of the original, on the splits that the fitness counts
  Correct before_, after_;                     // of the original, and of the best individual that was counted
  Edits counted_;                              // that one; at first the original
  search::GeneticScore counted_score_;         // what the search thinks of it
  Edits accepted_;  // of those counted that may be returned, the one that gains most
  Correct accepted_after_;
  search::GeneticScore accepted_score_;
  std::string fell_back_;                          // why an earlier mutant than the best is returned
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

HyperparameterSpec stall_spec() {
  HyperparameterSpec stall = integer_spec(
      "stall", kStall,
      "stop after so many generations without more correct inputs; null: 20, and a turn for every "
      "layer of deeper networks",
      "generations", kChoice, 1);
  stall.default_value = nullptr;
  stall.nullable = true;
  return stall;
}

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
      stall_spec(),
      integer_spec("rank_inputs", 2000, "most inputs the ranking is computed on", "inputs", kChoice, 2),
      choice_spec("rank", "default",
                  "units by knock-out and weights by |w dL/dw|; |w dL/dw| alone; weights by knock-out; |w|",
                  kChoice, {"default", "taylor", "knockout", "magnitude"}),
      in_unit("passes", number_spec("knockout_passes", 10,
                                    "layers whose knock-outs cost more passes of an input through the "
                                    "network are ranked by taylor (rank = default)",
                                    kChoice, 0)),
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
      choice_spec("guard", "auto",
                  "the validation split has a say in what is accepted: where there is one, always, never",
                  kChoice, {"auto", "on", "off"}),
  };
}

std::optional<Refusal> adapt(const FixRequest& request) {
  const bool wanted =
      request.hyperparameters.text("guard") == "on" || request.hyperparameters.boolean("add_validation");
  if (wanted && !request.data->has("validation")) return Refusal{"missing_split", "validation"};
  return refuse_without_targets(request);
}

const bool registered = register_approach({
    .info = {.key = "GM",
             .name = "GenMuNN",
             .level = Level::neuron,
             .basis = Basis::reconstruction,
             .publication = "IJMSSC 2022",
             .version = 3,
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

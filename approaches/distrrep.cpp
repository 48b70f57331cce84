// DTR, DistrRep: one particle swarm for each frequent kind of error, and one more over how much of each patch
// to keep (approaches/docs/DTR.md). That the study means DistrRep is inferred.
#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/last_layer.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/locate/suspicious.hpp"
#include "approaches/search/patches.hpp"
#include "approaches/search/risk.hpp"
#include "approaches/search/run_search.hpp"
#include "approaches/search/siblings.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// What was found for one type of error.
struct Expert {
  locate::ErrorType type;
  std::vector<WeightRef> weights;
  std::vector<double> values;  // as searched; empty until then
};

class DistrRep {
 public:
  DistrRep(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        layer_(*last_dense_layer(original)) {}

  FixResult run() {
    FixResult result;
    {
      const PhaseTimer timer(context_.log(), "localise");
      find_experts();
    }
    context_.log().scalars["error_types"] = static_cast<double>(experts_.size());
    std::erase_if(experts_, [](const Expert& expert) { return expert.weights.empty(); });
    context_.log().scalars["experts"] = static_cast<double>(experts_.size());
    if (experts_.empty()) {
      result.failure = {"no_fix", "no weight of the last layer has any impact on the chosen types of error"};
      return result;
    }
    saved_ = context_.load_checkpoint();
    {
      const PhaseTimer timer(context_.log(), "search");
      if (!search_experts()) {
        result.failure = {"timeout", "stopped before every type of error had been searched"};
        return result;
      }
    }
    const PhaseTimer timer(context_.log(), "integrate");
    return integrate();
  }

 protected:
  // For every type on the original model (DTR.md, Steps in this project, 1 and 2).
  void find_experts() {
    judgement_ = locate::judge_split(original_, split_, context_.batching());
    for (locate::ErrorType& type : locate::error_types(judgement_)) {
      if (static_cast<int64_t>(experts_.size()) == hyper_.integer("types")) break;
      if (static_cast<int64_t>(type.negatives.size()) < hyper_.integer("least_negatives")) break;
      std::vector<WeightRef> weights = locate(type);
      experts_.push_back({.type = std::move(type), .weights = std::move(weights), .values = {}});
    }
  }
  virtual std::vector<WeightRef> locate(const locate::ErrorType& type) {
    return locate::suspicious_weights(
        original_, layer_, split_, type.negatives,
        {.candidates = hyper_.integer("candidates") * std::ssize(type.negatives),
         .first_only = hyper_.boolean("first_only"),
         .batching = context_.batching()});
  }

  // DTR.md, Steps in this project, 3 and 4; false when stopped.
  bool search_experts() {
    RandomStream stream = context_.stream("positives");
    const std::vector<int64_t> positives =
        locate::with_replacement(judgement_.correct, hyper_.integer("positives"), stream);
    for (size_t k = 0; k < experts_.size(); ++k) {
      Expert& expert = experts_[k];
      if (restore(k)) continue;
      search::SwarmSettings settings = swarm_settings();
      settings.dimensions = search::sibling_dimensions(original_, expert.weights);
      const search::CandidateEvaluator evaluator(
          {.network = original_,
           .inputs = {{&split_, positives, false}, {&split_, expert.type.negatives, true}},
           .weights = expert.weights,
           .objective = expert_objective(),
           .batching = context_.batching(),
           .stop = context_.stop()});
      const search::SearchResult found = search::search(
          context_,
          swarm_of(settings, k,
                   [&](auto candidates, auto fitness) { evaluator.evaluate(candidates, fitness); }),
          stage(k, "expert " + std::to_string(k + 1)));
      if (found.stopped || !found.found) return false;
      expert.values = found.best;
      context_.log().series["expert_fitness"].push_back(found.best_fitness);
      context_.log().series["expert_patched"].push_back(
          static_cast<double>(evaluator.judge(found.best).negative.correct()));
    }
    return true;
  }

  // DTR.md, Formulas: expert's fitness.
  static search::Objective expert_objective() {
    return {.measure = search::Measure::losses, .value = [](const search::Verdict& verdict) {
              const auto part = [](const search::Tally& tally) {
                const auto inputs = static_cast<double>(std::max<int64_t>(tally.inputs, 1));
                return (static_cast<double>(tally.correct()) + 1) / (tally.loss / inputs + 1);
              };
              return part(verdict.negative) + part(verdict.positive);
            }};
  }

  search::SwarmSettings swarm_settings() const {
    return {
        .dimensions = {},
        .particles = hyper_.integer("particles"),
        .iterations = hyper_.integer("iterations"),
        .rule = search::Constriction{.phi = hyper_.number("phi"), .patience = hyper_.integer("patience")}};
  }

  // The swarms of the fix: those of the experts in order, then that of the integration.
  search::Optimiser swarm_of(const search::SwarmSettings& settings, size_t number,
                             search::EvaluateSwarm evaluate) const {
    return search::particle_swarm(settings, context_.seed("swarm/" + std::to_string(number)),
                                  std::move(evaluate));
  }
  search::SearchStage stage(size_t number, const std::string& what) {
    const auto place = static_cast<int64_t>(number);
    return {.what = what,
            .measured = "score",
            .log_series = false,  // only where there is an integration
            .first = "integration was scored",
            .save = [this, number](CheckpointState& tensors) { save(number, tensors); },
            .number = place,
            .of = std::ssize(experts_) + 1,
            .resumes = saved_ && saved_->at("stage").item<int64_t>() == place};
  }

  // DTR.md, Steps in this project, 5 and 6.
  FixResult integrate() {
    std::vector<search::Patch> patches;
    std::vector<int64_t> negatives;
    for (const Expert& expert : experts_) {
      patches.push_back({expert.weights, expert.values});
      negatives.insert(negatives.end(), expert.type.negatives.begin(), expert.type.negatives.end());
    }
    for (const Expert& expert : experts_) types_.push_back({expert.type.label, expert.type.predicted});
    const search::PatchMerge merge(original_, patches);
    const std::vector<WeightRef>& weights = merge.weights();
    const search::CandidateEvaluator evaluator(
        {.network = original_,
         .inputs = {{&split_, judgement_.correct, false}, {&split_, negatives, true}},
         .weights = weights,
         .objective = {},
         .batching = context_.batching(),
         .stop = context_.stop()});
    search::SwarmSettings settings = swarm_settings();
    settings.dimensions.assign(merge.coefficients(),
                               {.mean = 0.5, .deviation = 0.125, .slowest = 0.2, .fastest = 5});
    const size_t size = merge.coefficients();
    const auto score = [&](std::span<const double> point) {
      const bool inside = std::all_of(point.begin(), point.end(), [](double c) { return c >= 0 && c <= 1; });
      return inside ? score_of(evaluator.classify(merge.values(point)), evaluator) : -1;
    };
    const auto scores = [&](std::span<const double> candidates, std::span<double> fitness) {
      for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = score(candidates.subspan(k * size, size));
    };
    return search::run_search(
        original_, context_, swarm_of(settings, experts_.size(), scores),
        stage(experts_.size(), "integration"), [&](const search::SearchResult& found) {
          FixLog& log = context_.log();
          log.scalars["coefficients"] = static_cast<double>(size);
          log.scalars["changed"] = static_cast<double>(weights.size());
          log.series["best_score"] = found.series;
          search::Judged judged{
              .original = score_of(evaluator.classify(evaluator.original_values()), evaluator),
              .best = found.best_fitness,
              .edits = edits_of(weights, merge.values(found.best))};
          if (hyper_.boolean("guard") && judged.best <= judged.original)
            judged.limitation = "no integration was better";
          return judged;
        });
  }

  // DTR.md, Formulas: score(c).
  double score_of(const std::vector<int32_t>& classes, const search::CandidateEvaluator& evaluator) const {
    return search::recall_less_risk(evaluator.inputs().labels(), classes, original_.classes(), types_,
                                    hyper_.number("risk"));
  }

  static std::string place(const char* what, size_t k) { return std::string(what) + "." + std::to_string(k); }

  void save(size_t stage, CheckpointState& tensors) const {
    tensors["stage"] = at::scalar_tensor(static_cast<int64_t>(stage), at::kLong);
    for (size_t k = 0; k < std::min(stage, experts_.size()); ++k) {
      tensors[place("values", k)] = at::tensor(experts_[k].values, at::kDouble);
    }
    for (const char* name : {"expert_fitness", "expert_patched"}) {
      tensors[name] = at::tensor(context_.log().series[name], at::kDouble);
    }
    tensors["counters"] = at::tensor(
        {context_.log().counters["evaluations"], context_.log().counters["iterations"]}, at::kLong);
  }

  // Whether expert k was finished before the checkpoint.
  bool restore(size_t k) {
    if (!saved_) return false;
    const auto values = saved_->find(place("values", k));
    if (values == saved_->end()) return false;
    const double* first = values->second.const_data_ptr<double>();
    experts_[k].values.assign(first, first + values->second.numel());
    for (const char* name : {"expert_fitness", "expert_patched"}) {
      const at::Tensor& series = saved_->at(name);
      const double* begin = series.const_data_ptr<double>();
      context_.log().series[name].assign(begin, begin + series.numel());
    }
    const auto counters = saved_->at("counters").accessor<int64_t, 1>();
    context_.log().counters["evaluations"] = counters[0];
    context_.log().counters["iterations"] = counters[1];
    return true;
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const TargetLayer layer_;
  locate::Judgement judgement_;
  std::vector<Expert> experts_;
  std::vector<search::LabelPair> types_;  // of the experts
  std::optional<CheckpointState> saved_;
};

// RAND:DTR: for every type as many weights of the last layer.
class RandomDistrRep final : public DistrRep {
 public:
  using DistrRep::DistrRep;

 protected:
  std::vector<WeightRef> locate(const locate::ErrorType& type) override {
    return random_weights(original_, {layer_}, std::ssize(DistrRep::locate(type)), chance_);
  }

 private:
  RandomStream chance_ = context_.stream("random_weights");
};

std::optional<Refusal> adapt(const FixRequest& request) {
  if (auto refusal = refuse_without_targets(request)) return refusal;
  if (!last_dense_layer(*request.network)) {
    return Refusal{"structure", "the logits do not come from a dense layer with weights of its own"};
  }
  if (!request.repair_error_types) return std::nullopt;
  const int64_t wanted = request.hyperparameters.integer("types");
  const int64_t min_negatives = request.hyperparameters.integer("least_negatives");
  const auto& sizes = *request.repair_error_types;
  const auto enough =
      std::count_if(sizes.begin(), sizes.end(), [&](int64_t size) { return size >= min_negatives; });
  if (enough >= wanted) return std::nullopt;
  return Refusal{"too_few_error_types", std::to_string(enough) + " pairs of label and prediction have " +
                                            std::to_string(min_negatives) +
                                            " misclassified inputs or more in the repair split; " +
                                            std::to_string(wanted) + " are needed"};
}

const std::string kCode = "public code of DistrRep (ICST 2023), jst-qaml/eAI-Repair-Toolkit";
// MNIST's repair split has 11 pairs with 5 faults or more and 7 with 6, and the approach is said not to be
// applicable there.
constexpr int64_t kMinNegatives = 6;

std::vector<HyperparameterSpec> hyperparameter_specs() {
  return {
      integer_spec("types", 8, "most frequent pairs of label and prediction that are repaired", "pairs",
                   "our choice: what the study reports as applicable", 1),
      integer_spec("least_negatives", kMinNegatives, "misclassified inputs such a pair has at least",
                   "inputs", "our choice: what the study reports as applicable", 1),
      integer_spec("candidates", 20, "weights with the greatest gradients that are looked at, per negative",
                   "weights", kCode, 1),
      integer_spec("positives", 200, "correctly classified inputs drawn with replacement for the experts",
                   "inputs", kCode, 1),
      integer_spec("particles", 100, "particles of every swarm", "particles", kCode, 1),
      integer_spec("iterations", 100, "most iterations of every swarm", "iterations", kCode, 0),
      integer_spec("patience", 10, "stop when the best is not above that of so many iterations before",
                   "iterations", kCode, 1),
      number_spec("phi", 4.1, "greatest pull towards either best", kCode, 4),
      number_spec("risk", 0.5, "weight of the errors' rates in the integration", kCode, 0),
      boolean_spec("first_only", false, "forward impact of the first negative alone, as the reference has it",
                   "our choice; true: " + kCode),
      boolean_spec("guard", false, "return the original when the integration scores no better",
                   "our choice; the public code has none"),
  };
}

const bool registered = register_approach({
    .info = {.key = "DTR",
             .name = "DistrRep",
             .level = Level::neuron,
             .publication = "ICST 2023",
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return DistrRep(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomDistrRep(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

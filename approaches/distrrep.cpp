// DTR, DistrRep: one particle swarm for each risky or frequent kind of error, and one more over how much of
// each patch to keep (approaches/docs/DTR.md). That the study means DistrRep is inferred.
#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "approaches/last_layer.hpp"
#include "approaches/locate/error_kinds.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/locate/suspicious.hpp"
#include "approaches/search/patches.hpp"
#include "approaches/search/risk.hpp"
#include "approaches/search/run_search.hpp"
#include "approaches/search/siblings.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// What was found for one kind of error.
struct Expert {
  search::ErrorKind kind;
  std::vector<int64_t> negatives;  // positions in the repair split
  std::vector<WeightRef> weights;
  std::vector<double> values;  // as searched; empty until then
};

// What the experts' searches log, one number each.
const std::vector<std::string> kExpertSeries = {"expert_fitness", "expert_patched"};

class DistrRep {
 public:
  DistrRep(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        layer_(*last_dense_layer(original)),
        levels_(parameters.table("risk")) {}

  FixResult run() {
    FixResult result;
    saved_ = context_.load_checkpoint();
    if (saved_) {
      load(*saved_);
    } else {
      const PhaseTimer timer(context_.log(), "localise");
      find_experts();
    }
    log_experts();
    if (experts_.empty()) {
      result.failure = {"no_fix", kinds_ == 0 ? "risk gives no level above 0 to any error that occurs"
                                              : "no weight of the last layer has any impact on the chosen "
                                                "kinds of error"};
      return result;
    }
    {
      const PhaseTimer timer(context_.log(), "search");
      if (!search_experts()) {
        result.failure = {"timeout", "stopped before every kind of error had been searched"};
        return result;
      }
    }
    const PhaseTimer timer(context_.log(), "integrate");
    result = integrate();
    if (!left_out_.empty())
      result.note += (result.note.empty() ? "" : "; ") + ("no expert for " + text_of(left_out_));
    return result;
  }

 protected:
  // For every kind on the original model (DTR.md, Steps in this project, 1 and 2).
  void find_experts() {
    const locate::Judgement judgement = locate::judge_split(original_, split_, context_.batching());
    locate::ChosenKinds chosen = locate::choose_kinds(
        judgement, levels_,
        {.most = hyper_.integer("types"), .least_negatives = hyper_.integer("least_negatives")});
    correct_ = judgement.correct;
    kinds_ = std::ssize(chosen.kinds);
    for (const locate::KindOfFaults& one : chosen.left_out)
      left_out_.emplace_back(one.kind, std::ssize(one.negatives));
    for (locate::KindOfFaults& one : chosen.kinds) {
      std::vector<WeightRef> weights = locate(one.negatives);
      if (weights.empty()) continue;
      experts_.push_back({one.kind, std::move(one.negatives), std::move(weights), {}});
    }
  }
  virtual std::vector<WeightRef> locate(const std::vector<int64_t>& negatives) {
    return locate::suspicious_weights(original_, layer_, split_, negatives,
                                      {.candidates = hyper_.integer("candidates") * std::ssize(negatives),
                                       .first_only = hyper_.boolean("first_only"),
                                       .batching = context_.batching()});
  }

  void log_experts() {
    FixLog& log = context_.log();
    log.scalars["error_types"] = static_cast<double>(kinds_);
    log.scalars["experts"] = static_cast<double>(experts_.size());
    for (const Expert& expert : experts_) {
      log.series["expert_label"].push_back(static_cast<double>(expert.kind.label));
      log.series["expert_predicted"].push_back(static_cast<double>(expert.kind.predicted));
      log.series["expert_level"].push_back(expert.kind.level);
      log.series["expert_faults"].push_back(static_cast<double>(expert.negatives.size()));
    }
  }

  // DTR.md, Steps in this project, 3 and 4; false when stopped.
  bool search_experts() {
    RandomStream stream = context_.stream("positives");
    const std::vector<int64_t> positives =
        locate::with_replacement(correct_, hyper_.integer("positives"), stream);
    for (size_t k = 0; k < experts_.size(); ++k) {
      Expert& expert = experts_[k];
      if (!expert.values.empty()) continue;  // searched before the checkpoint
      search::SwarmSettings settings = swarm_settings();
      settings.dimensions = search::sibling_dimensions(original_, expert.weights);
      const search::CandidateEvaluator evaluator(
          {.network = original_,
           .inputs = {{&split_, positives, false}, {&split_, expert.negatives, true}},
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
      negatives.insert(negatives.end(), expert.negatives.begin(), expert.negatives.end());
    }
    // An input that two kinds have in common counts once.
    std::ranges::sort(negatives);
    const auto doubled = std::ranges::unique(negatives);
    negatives.erase(doubled.begin(), doubled.end());
    const search::PatchMerge merge(original_, patches);
    const std::vector<WeightRef>& weights = merge.weights();
    const search::CandidateEvaluator evaluator(
        {.network = original_,
         .inputs = {{&split_, correct_, false}, {&split_, negatives, true}},
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
      for (size_t k = 0; k < fitness.size(); ++k) {
        context_.stop().check();
        fitness[k] = score(candidates.subspan(k * size, size));
      }
    };
    // Before the search, so that a stop leaves nothing to compute.
    const double original_score = score_of(evaluator.classify(evaluator.original_values()), evaluator);
    return search::run_search(original_, context_, swarm_of(settings, experts_.size(), scores),
                              stage(experts_.size(), "integration"), [&](const search::SearchResult& found) {
                                FixLog& log = context_.log();
                                log.scalars["coefficients"] = static_cast<double>(size);
                                log.scalars["changed"] = static_cast<double>(weights.size());
                                log.series["best_score"] = found.series;
                                search::Judged judged{.original = original_score,
                                                      .best = found.best_fitness,
                                                      .edits = edits_of(weights, merge.values(found.best))};
                                if (hyper_.boolean("guard") && judged.best <= judged.original)
                                  judged.limitation = "no integration was better";
                                return judged;
                              });
  }

  // DTR.md, Formulas: score(c).
  double score_of(const std::vector<int32_t>& classes, const search::CandidateEvaluator& evaluator) const {
    std::vector<search::ErrorKind> kinds;
    for (const Expert& expert : experts_) kinds.push_back(expert.kind);
    return search::recall_less_risk(evaluator.inputs().labels(), classes,
                                    levels_.of_classes(original_.classes()), kinds,
                                    hyper_.number("risk_factor"));
  }

  static std::string text_of(const std::vector<std::pair<search::ErrorKind, int64_t>>& kinds) {
    std::string text;
    for (const auto& [kind, faults] : kinds) {
      text += (text.empty() ? "" : ", ") + search::to_text(kind) + " (" + std::to_string(faults) +
              (faults == 1 ? " fault)" : " faults)");
    }
    return text;
  }

  static std::string place(const char* what, size_t k) { return std::string(what) + "." + std::to_string(k); }

  void save(size_t stage, CheckpointState& tensors) const {
    tensors["stage"] = at::scalar_tensor(static_cast<int64_t>(stage), at::kLong);
    tensors["kinds"] = at::scalar_tensor(kinds_, at::kLong);
    tensors["experts"] = at::scalar_tensor(std::ssize(experts_), at::kLong);
    tensors["correct"] = locate::position_table(correct_);
    for (size_t k = 0; k < experts_.size(); ++k) {
      const Expert& expert = experts_[k];
      tensors[place("kind", k)] = locate::position_table({expert.kind.label, expert.kind.predicted});
      tensors[place("level", k)] = at::scalar_tensor(expert.kind.level, at::kDouble);
      tensors[place("negatives", k)] = locate::position_table(expert.negatives);
      tensors[place("weights", k)] = weight_table(expert.weights).flatten();
      if (k < stage) tensors[place("values", k)] = at::tensor(expert.values, at::kDouble);
    }
    std::vector<int64_t> left_out;
    for (const auto& [kind, faults] : left_out_)
      left_out.insert(left_out.end(), {kind.label, kind.predicted, faults});
    tensors["left_out"] = locate::position_table(left_out);
    for (const std::string& name : kExpertSeries)
      tensors[name] = at::tensor(context_.log().series[name], at::kDouble);
    tensors["counters"] = at::tensor(
        {context_.log().counters["evaluations"], context_.log().counters["iterations"]}, at::kLong);
  }

  void load(const CheckpointState& saved) {
    const auto numbers = [](const at::Tensor& table) {
      const double* first = table.const_data_ptr<double>();
      return std::vector<double>(first, first + table.numel());
    };
    kinds_ = saved.at("kinds").item<int64_t>();
    correct_ = locate::positions_of(saved.at("correct"));
    for (size_t k = 0; k < static_cast<size_t>(saved.at("experts").item<int64_t>()); ++k) {
      const std::vector<int64_t> kind = locate::positions_of(saved.at(place("kind", k)));
      const auto values = saved.find(place("values", k));
      experts_.push_back({{.label = kind.at(0),
                           .predicted = kind.at(1),
                           .level = saved.at(place("level", k)).item<double>()},
                          locate::positions_of(saved.at(place("negatives", k))),
                          weights_of(saved.at(place("weights", k))),
                          values == saved.end() ? std::vector<double>() : numbers(values->second)});
    }
    const std::vector<int64_t> left_out = locate::positions_of(saved.at("left_out"));
    for (size_t k = 0; k < left_out.size(); k += 3) {
      left_out_.emplace_back(search::ErrorKind{.label = left_out[k], .predicted = left_out[k + 1]},
                             left_out[k + 2]);
    }
    for (const std::string& name : kExpertSeries) context_.log().series[name] = numbers(saved.at(name));
    const auto counters = saved.at("counters").accessor<int64_t, 1>();
    context_.log().counters["evaluations"] = counters[0];
    context_.log().counters["iterations"] = counters[1];
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const TargetLayer layer_;
  const search::RiskLevels levels_;
  std::vector<int64_t> correct_;  // correctly classified inputs of the repair split
  int64_t kinds_ = 0;             // chosen, with a front or without
  std::vector<Expert> experts_;
  std::vector<std::pair<search::ErrorKind, int64_t>> left_out_;  // named kinds, and how many faults they have
  std::optional<CheckpointState> saved_;
};

// RAND:DTR: for every kind as many weights of the last layer.
class RandomDistrRep final : public DistrRep {
 public:
  using DistrRep::DistrRep;

 protected:
  std::vector<WeightRef> locate(const std::vector<int64_t>& negatives) override {
    return random_weights(original_, {layer_}, std::ssize(DistrRep::locate(negatives)), chance_);
  }

 private:
  RandomStream chance_ = context_.stream("random_weights");
};

// "30, 12, 7": the greatest of them.
std::string greatest(std::vector<int64_t> sizes) {
  constexpr size_t kShown = 8;
  std::ranges::sort(sizes, std::greater<>());
  std::string text;
  for (size_t k = 0; k < std::min(kShown, sizes.size()); ++k)
    text += (k == 0 ? "" : ", ") + std::to_string(sizes[k]);
  return text + (sizes.size() > kShown ? ", ..." : "");
}

std::optional<Refusal> adapt(const FixRequest& request) {
  if (auto refusal = refuse_without_targets(request)) return refusal;
  if (!last_dense_layer(*request.network)) {
    return Refusal{"structure", "the logits do not come from a dense layer with weights of its own"};
  }
  const Hyperparameters& hyper = request.hyperparameters;
  const int64_t classes = request.network->classes(),
                label = search::RiskLevels(hyper.table("risk")).largest_label();
  if (label >= classes) {
    return Refusal{"unknown_label", "risk names the label " + std::to_string(label) +
                                        ", and the classes are 0 to " + std::to_string(classes - 1)};
  }
  if (!request.repair_error_types) return std::nullopt;
  const int64_t required = hyper.integer("types_required"), least = hyper.integer("least_negatives");
  const std::vector<int64_t>& sizes = *request.repair_error_types;
  const auto enough = std::ranges::count_if(sizes, [&](int64_t size) { return size >= least; });
  // Where none has enough, the most frequent one is repaired all the same.
  if (std::max<int64_t>(enough, sizes.empty() ? 0 : 1) >= required) return std::nullopt;
  return Refusal{"too_few_error_types",
                 std::to_string(enough) + " of the " + std::to_string(sizes.size()) +
                     " pairs of label and prediction that occur have " + std::to_string(least) +
                     " misclassified inputs or more in the repair split (the most frequent have " +
                     greatest(sizes) + "), and the setting types_required is " + std::to_string(required)};
}

const std::string kCode = "public code of DistrRep (ICST 2023), jst-qaml/eAI-Repair-Toolkit";

std::vector<HyperparameterSpec> hyperparameter_specs() {
  return {
      integer_spec("types", 8, "most kinds of error that are repaired, the most risky and most frequent ones",
                   "kinds", "number that is taken for granted by the " + kCode, 1),
      integer_spec("types_required", 1,
                   "pairs of label and prediction with least_negatives faults that there must be", "pairs",
                   "our choice: a single kind can be repaired as well", 1),
      integer_spec("least_negatives", 5,
                   "misclassified inputs of a kind; where none has so many, the first is repaired alone",
                   "inputs", "our choice: a search on fewer says little about the kind", 1),
      table_spec("risk",
                 "risk of errors: levels by kind, \"3->5\" for label 3 taken for class 5 and \"7\" for "
                 "label 7 taken for any class; 1 where nothing is said, 0: not to be repaired",
                 "level", "our choice: equal risk, as only a user can know it", search::RiskLevels::is_key,
                 "a label such as \"7\", or two such as \"3->5\"", 0),
      integer_spec("candidates", 20, "weights with the greatest gradients that are looked at, per negative",
                   "weights", kCode, 1),
      integer_spec("positives", 200, "correctly classified inputs drawn with replacement for the experts",
                   "inputs", kCode, 1),
      integer_spec("particles", 100, "particles of every swarm", "particles", kCode, 1),
      integer_spec("iterations", 100, "most iterations of every swarm", "iterations", kCode, 0),
      integer_spec("patience", 10, "stop when the best is not above that of so many iterations before",
                   "iterations", kCode, 1),
      number_spec("phi", 4.1, "greatest pull towards either best", kCode, 4),
      number_spec("risk_factor", 0.5, "weight of the errors' rates in the integration", kCode, 0),
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
             .basis = Basis::inferred_identity,
             .publication = "ICST 2023",
             .version = 2,
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

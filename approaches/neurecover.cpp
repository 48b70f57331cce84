// NR, NeuRecover: weights that the last training epoch moved and that matter for what it made worse, new
// values for them by a particle swarm (approaches/docs/NR.md).
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "approaches/dense_layers.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/regressions.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/search/run_search.hpp"
#include "approaches/search/siblings.hpp"
#include "harness/approach/specs.hpp"

namespace harness {
namespace {

// What localisation logs: numbers, and a number for each dense layer.
const std::vector<std::string> kCounts = {"deg", "imp", "tensors", "rate", "considered", "localised"};
const std::vector<std::string> kLayerCounts = {"considered_of_layer", "localised_of_layer"};

using ParameterSet = std::map<std::string, at::Tensor>;

// The fitness (NR.md, Formulas). The public code takes 2 for the size of either set, whatever it is.
search::Objective neurecover_objective(double alpha, bool compat_sizes) {
  return {.measure = search::Measure::losses, .value = [alpha, compat_sizes](const search::Verdict& verdict) {
            const auto term = [compat_sizes](const search::Tally& tally) {
              const auto inputs = static_cast<double>(tally.inputs);
              const double size = compat_sizes ? 2 : inputs;
              return (static_cast<double>(tally.correct()) / size + 1) / (tally.loss / inputs + 1);
            };
            return term(verdict.negative) + alpha * term(verdict.positive);
          }};
}

// Name of the first parameter of the network that a checkpoint lacks or has in another shape; else of the
// first whose values differ, where `values` is set. Empty: none.
std::string first_difference(const Network& network, const ParameterSet& checkpoint, bool values) {
  for (const Parameter& parameter : network.parameters()) {
    const auto found = checkpoint.find(parameter.name);
    if (found == checkpoint.end() || found->second.sizes() != parameter.value.sizes()) return parameter.name;
    if (values && !at::equal(found->second.cpu(), parameter.value.detach().cpu())) return parameter.name;
  }
  return "";
}

class NeuRecover {
 public:
  NeuRecover(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        split_(context.split("repair")),
        layers_(dense_layers(original)) {}

  FixResult run() {
    FixResult result;
    {
      const PhaseTimer timer(context_.log(), "localise");
      const auto& saved = context_.load_checkpoint();
      if (saved)
        load(*saved);
      else
        result.failure = locate();
      if (!result.failure.code.empty()) return result;
    }
    const PhaseTimer timer(context_.log(), "search");
    return search();
  }

 protected:
  // Weights and inputs; an empty refusal where there is something to search.
  virtual Refusal locate() {
    context_.progress(0, "localise");
    const auto& history = context_.history();  // belongs to the model: adapt() has seen to it
    const ParameterSet& before = history[history.size() - 2];
    const locate::Judgement now = locate::judge_split(original_, split_, context_.batching());
    if (now.wrong.empty() || now.correct.empty()) {
      return {"no_fix", "the repair split has no input that is classified " +
                            std::string(now.wrong.empty() ? "wrongly" : "correctly")};
    }
    const locate::EpochEffect effect = effect_of(before, now);
    log("deg", effect.regressed.size());
    log("imp", effect.improved.size());
    if (effect.regressed.empty()) return {"no_fix", "the last epoch made no input of the repair split worse"};
    locate::RegressionWeights found =
        locate::regression_weights(original_, before, layers_, split_, effect,
                                   {.backward = hyper_.text("backward"),
                                    .reduction_rate = hyper_.number("reduction_rate"),
                                    .widen = hyper_.boolean("widen"),
                                    .delta_over = hyper_.text("delta_over"),
                                    .batching = context_.batching()});
    log(found);
    if (found.weights.empty()) {
      return {"no_fix", std::string("no weight is suspicious by every score at once; ") +
                            (hyper_.boolean("widen") ? "no greater reduction_rate leaves any"
                                                     : "a greater reduction_rate considers more")};
    }
    weights_ = std::move(found.weights);
    negatives_ = now.wrong;
    positives_ = some_positives(now.correct);
    return {};
  }

  // With the last epoch's weights taken back, and buffers such as the averages of batch norm (NR.md, Steps in
  // this project, 2).
  locate::EpochEffect effect_of(const ParameterSet& before, const locate::Judgement& now) const {
    Network earlier = original_.fork();
    for (size_t id = 0; id < earlier.parameters().size(); ++id) {
      earlier.set_parameter(static_cast<ParameterId>(id), before.at(earlier.parameters()[id].name));
    }
    const locate::Judgement then = locate::judge_split(earlier, split_, context_.batching());
    locate::EpochEffect effect;
    std::ranges::set_intersection(then.correct, now.wrong, std::back_inserter(effect.regressed));
    std::ranges::set_intersection(then.wrong, now.correct, std::back_inserter(effect.improved));
    return effect;
  }

  // With replacement (NR.md, Steps in this project, 4).
  std::vector<int64_t> some_positives(const std::vector<int64_t>& correct) const {
    const int64_t wanted = hyper_.integer("positives");
    if (wanted == 0) return correct;
    RandomStream stream = context_.stream("positives");
    return locate::with_replacement(correct, wanted, stream);
  }

  FixResult search() {
    const search::CandidateEvaluator evaluator(
        {.network = original_,
         .inputs = {{&split_, negatives_, true}, {&split_, positives_, false}},
         .weights = weights_,
         .objective = neurecover_objective(hyper_.number("alpha"), hyper_.boolean("compat_sizes")),
         .batching = context_.batching(),
         .stop = context_.stop()});
    const search::SwarmSettings settings{
        .dimensions = search::sibling_dimensions(original_, weights_),
        .particles = hyper_.integer("particles"),
        .iterations = hyper_.integer("iterations"),
        .rule = search::Constriction{.phi = hyper_.number("phi"), .patience = hyper_.integer("patience")}};
    FixLog& log = context_.log();
    log.scalars["touched_logits"] = evaluator.strategy() == "touched_logits";
    FixResult result = search::run_search(
        original_, context_,
        search::particle_swarm(
            settings, context_.seed("search"),
            [&](auto candidates, auto fitness) { evaluator.evaluate(candidates, fitness); }),
        {.save = [this](CheckpointState& tensors) { save(tensors); }},
        [&](const search::SearchResult& found) {
          const search::Verdict verdict = evaluator.judge(found.best);
          log.scalars["n_patched"] = static_cast<double>(verdict.negative.correct());
          log.scalars["n_intact"] = static_cast<double>(verdict.positive.correct());
          return search::judged(evaluator, evaluator.original_fitness(), found.best_fitness, found.best,
                                hyper_.boolean("keep_original"));
        });
    if (const std::string text = remarks(); !text.empty())
      result.note += (result.note.empty() ? "" : "; ") + text;
    return result;
  }

  void log(const char* name, size_t value) { context_.log().scalars[name] = static_cast<double>(value); }
  void log(const locate::RegressionWeights& found) {
    log("tensors", static_cast<size_t>(found.tensors));
    log("localised", found.weights.size());
    log("considered", static_cast<size_t>(std::reduce(found.considered.begin(), found.considered.end())));
    context_.log().scalars["rate"] = found.rate;
    context_.log().series["considered_of_layer"] = {found.considered.begin(), found.considered.end()};
    context_.log().series["localised_of_layer"] = {found.localised.begin(), found.localised.end()};
  }

  // What the settings meant for this model.
  std::string remarks() const {
    std::ostringstream text;
    const double given = hyper_.number("reduction_rate"), rate = context_.log().scalars.at("rate");
    const bool is_wider = rate > given;
    if (is_wider) text << "reduction_rate " << given << " left no weight and was widened to " << rate;
    if (hyper_.text("backward") == "compat" && !original_.ends_in_softmax()) {
      text << (is_wider ? "; " : "")
           << "backward compat is logit_sum here, as the model does not end in a softmax";
    }
    return text.str();
  }

  void save(CheckpointState& tensors) const {
    tensors["negatives"] = locate::position_table(negatives_);
    tensors["positives"] = locate::position_table(positives_);
    tensors["weights"] = weight_table(weights_).flatten();
    for (const std::string& name : kCounts)
      tensors["count." + name] = at::scalar_tensor(context_.log().scalars.at(name), at::kDouble);
    for (const std::string& name : kLayerCounts)
      tensors["counts." + name] = at::tensor(context_.log().series.at(name), at::kDouble);
  }

  void load(const CheckpointState& saved) {
    negatives_ = locate::positions_of(saved.at("negatives"));
    positives_ = locate::positions_of(saved.at("positives"));
    weights_ = weights_of(saved.at("weights"));
    for (const std::string& name : kCounts)
      context_.log().scalars[name] = saved.at("count." + name).item<double>();
    for (const std::string& name : kLayerCounts) {
      const at::Tensor& counts = saved.at("counts." + name);
      const double* first = counts.const_data_ptr<double>();
      context_.log().series[name].assign(first, first + counts.numel());
    }
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const Split& split_;
  const std::vector<TargetLayer> layers_;
  std::vector<WeightRef> weights_;
  std::vector<int64_t> negatives_, positives_;
};

// RAND:NR: as many weights as are found, of all dense layers.
class RandomNeuRecover final : public NeuRecover {
 public:
  using NeuRecover::NeuRecover;

 protected:
  Refusal locate() override {
    const Refusal refusal = NeuRecover::locate();
    RandomStream stream = context_.stream("random_weights");
    weights_ = random_weights(original_, layers_, std::ssize(weights_), stream);
    return refusal;
  }
};

// Why the last two checkpoints are not those of this model's training. It is a fact of the subject: no run of
// the fix could find anything else.
std::optional<Refusal> refuse_other_history(const FixRequest& request) {
  const size_t count = request.history.size();
  const auto named = [&](size_t k) {
    const bool known = k < request.history_names.size();
    return (known ? request.history_names[k] + ", " : "") + "checkpoint " + std::to_string(k + 1) + " of " +
           std::to_string(count);
  };
  std::string different = first_difference(*request.network, request.history[count - 1], true);
  if (!different.empty()) {
    return Refusal{"history_mismatch",
                   named(count - 1) + ", is not the model to be fixed: " + different + " differs"};
  }
  different = first_difference(*request.network, request.history[count - 2], false);
  if (different.empty()) return std::nullopt;
  return Refusal{"history_mismatch", named(count - 2) + ", has no " + different + " of the model's shape"};
}

std::optional<Refusal> adapt(const FixRequest& request) {
  if (const auto refusal = refuse_without_dense_layers(request)) return refusal;
  if (request.history.size() >= 2) return refuse_other_history(request);
  return Refusal{"no_history", "the subject names " + std::to_string(request.history.size()) +
                                   " checkpoints of its training; at least two are needed"};
}

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string hyper = "public code, jst-qaml/eAI-Repair-Toolkit (Tokui et al., SANER 2022)";
  return {
      choice_spec("backward", "loss",
                  "whose gradient ranks the weights; compat: the sum of the softmax's outputs, which is "
                  "noise; where a "
                  "model ends in logits it has no effect beside logit_sum",
                  "our choice; compat: " + hyper, {"loss", "logit_sum", "compat"}),
      number_spec("reduction_rate", 1, "factor on the number of weights considered in each layer", hyper, 0),
      boolean_spec("widen", true, "double reduction_rate until at least one weight is left",
                   "our choice; the public code does not"),
      choice_spec("delta_over", "all",
                  "tensors that share the change of the last epoch: all trainable ones, or the dense kernels",
                  "our choice; all: " + hyper, {"all", "dense_kernels"}),
      number_spec("alpha", 1, "weight of the correctly classified inputs in the fitness", hyper, 0),
      integer_spec("positives", 200, "correctly classified inputs drawn with replacement; 0: all", "inputs",
                   hyper, 0),
      boolean_spec("compat_sizes", false, "take 2 for the size of both sets in the fitness",
                   "our choice; true: " + hyper),
      integer_spec("particles", 100, "particles of the swarm", "particles", hyper, 1),
      integer_spec("iterations", 100, "most iterations", "iterations", hyper, 0),
      integer_spec("patience", 10, "stop when the best is not above that of so many iterations before",
                   "iterations", hyper, 1),
      number_spec("phi", 4.1, "greatest pull towards either best", hyper, 4),
      boolean_spec("keep_original", true, "return the original when no candidate is better",
                   "our choice; the public code never returns it"),
  };
}

const bool registered = register_approach({
    .info = {.key = "NR",
             .name = "NeuRecover",
             .level = Level::neuron,
             .basis = Basis::inferred_identity,
             .publication = "SANER 2022",
             .version = 3,
             .needs = {"repair"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return NeuRecover(original, context, context.hyperparameters()).run(); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomNeuRecover(original, context, parameters).run();
        },
});

}  // namespace
}  // namespace harness

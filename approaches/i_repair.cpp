// IR, I-REPAIR: fine-tuning on the faults and a few correct inputs that moves, in each step, only weights
// that matter much for the faults still there and little for the general outputs (approaches/docs/IR.md; the
// public code's mode "Edge"), and keeps the weights that did best on inputs held back.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <chrono>

#include "approaches/batches.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/train/kept_weights.hpp"
#include "approaches/train/log_state.hpp"
#include "approaches/train/masked.hpp"
#include "approaches/train/weight_gradients.hpp"
#include "harness/approach/specs.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness {
namespace {

constexpr double kGuard = 1e-8;                   // of the mask (IR.md, Formulas)
constexpr int64_t kSeriesEvery = 20;              // iterations; also between judgements on validation
constexpr int64_t kKeptOnCpu = int64_t{1} << 26;  // numbers of inputs that stay in memory
constexpr int64_t kLeastGeneral = 40, kGeneralPerSpecific = 10;
constexpr int64_t kFewSpecific = 40;   // where all would take too long
constexpr double kCountedSteps = 200;  // of which that is said

enum Sum : size_t { general, specific, rest };  // L1 of the logits of G; cross-entropy of R; of all else

class IRepair {
 public:
  IRepair(const Network& original, FixContext& context, const Hyperparameters& parameters)
      : original_(original),
        context_(context),
        hyper_(parameters),
        network_(original.fork()),
        chunk_(train::gradient_chunk(original, context.batch())),
        has_dropout_(graph::has_kind(original.nodes(), NodeKind::dropout)),
        stop_(context.stop()) {}

  FixResult run() {
    FixResult result;
    saved_ = context_.load_checkpoint();
    {
      const PhaseTimer timer(context_.log(), "select");
      choose_inputs();
    }
    if (specific_.size() == 0 || general_.size() == 0) {
      result.failure = {"no_fix", specific_.size() == 0
                                      ? "the repair split has no misclassified input"
                                      : "no input of " + source_ + " is classified correctly"};
      return result;
    }
    const PhaseTimer timer(context_.log(), "train");
    return train();
  }

 protected:
  // S, G and the inputs held back (IR.md, Steps in this project, 1); S and G are kept by a checkpoint.
  void choose_inputs() {
    source_ = context_.has_split("validation") ? "validation"
              : context_.has_split("train")    ? "train"
                                               : "repair";
    specific_.split = &context_.split("repair");
    general_.split = held_back_.split = &context_.split(source_);
    std::vector<int64_t> pool = context_.stream("halves").permutation(general_.split->size());
    if (hyper_.text("keep") == "best" && source_ == "validation" && pool.size() > 1) {
      const auto middle = pool.begin() + std::ssize(pool) / 2;
      held_back_.positions.assign(middle, pool.end());
      pool.erase(middle, pool.end());
      std::ranges::sort(held_back_.positions);
    }
    if (saved_) {
      specific_.positions = locate::positions_of(saved_->at("specific"));
      general_.positions = locate::positions_of(saved_->at("general"));
      faults_ = saved_->at("faults").item<int64_t>();
    } else {
      const locate::Judgement judgement =
          locate::judge_split(original_, *specific_.split, context_.batching());
      faults_ = std::ssize(judgement.wrong);
      RandomStream stream = context_.stream("specific");
      specific_.positions = locate::balanced_faults(
          judgement, hyper_.is_null("max_specific") ? 0 : hyper_.integer("max_specific"), stream);
      std::ranges::sort(pool);
      general_.positions = correct_among(pool);
      draw_general();
    }
    log_inputs();
  }

  // Those of the source of G that the original gets right.
  std::vector<int64_t> correct_among(const std::vector<int64_t>& pool) const {
    const InputSet inputs{general_.split, pool};
    const at::Tensor right = predict(original_, inputs, context_.batching())
                                 .eq(general_.split->labels().index_select(0, locate::position_table(pool)));
    std::vector<int64_t> correct;
    for (const int64_t k : locate::positions_of(right.nonzero().flatten()))
      correct.push_back(pool[static_cast<size_t>(k)]);
    return correct;
  }

  int64_t general_wanted() const {
    const int64_t given = hyper_.integer("general");
    return given > 0 ? given : std::max(kLeastGeneral, kGeneralPerSpecific * specific_.size());
  }

  // Of the general inputs as many as are wanted.
  void draw_general() {
    RandomStream stream = context_.stream("general");
    general_.positions = locate::draw_balanced(general_.positions, general_.split->labels().contiguous(),
                                               general_wanted(), stream);
  }

  void log_inputs() {
    auto& scalars = context_.log().scalars;
    scalars["specific"] = static_cast<double>(specific_.size());
    scalars["general_from_" + source_] = static_cast<double>(general_.size());
    if (held_back_.size() > 0) scalars["held_back"] = static_cast<double>(held_back_.size());
  }

  // Whether a step that took so long, the first one, leaves S too large for `cap_seconds`; S and G are few
  // then.
  bool made_few(double seconds) {
    if (hyper_.is_null("cap_seconds") || specific_.size() <= kFewSpecific ||
        seconds * kCountedSteps <= hyper_.number("cap_seconds")) {
      return false;
    }
    RandomStream stream = context_.stream("capped");
    specific_.positions = locate::draw_balanced(specific_.positions, specific_.split->labels().contiguous(),
                                                kFewSpecific, stream);
    draw_general();
    chunks_.clear();
    log_inputs();
    return true;
  }

  train::UpdateRule rule() const {
    // The published rates: 1e-4 for a plain dense network, 1e-5 for convolutional ones.
    const bool convolves = graph::has_kind(original_.nodes(), NodeKind::conv);
    const double rate =
        hyper_.is_null("learning_rate") ? (convolves ? 1e-5 : 1e-4) : hyper_.number("learning_rate");
    context_.log().scalars["learning_rate"] = rate;
    return {.kind = train::UpdateRule::Kind::rmsprop, .learning_rate = rate};
  }

  // The loop ends on the forward pass that finds nothing wrong any more, at the weights before the step that
  // would follow: the same weights as testing after each step.
  FixResult train() {
    train::MaskedOptimiser optimiser(network_, train::trainable_parameters(network_), rule());
    train::WeightGradients gradients(network_, optimiser.weights(), 3);
    FixLog& log = context_.log();
    if (saved_) {
      optimiser.load(*saved_, "ir");
      kept_.load(*saved_, "kept", optimiser);
      train::load_series(log, series(), *saved_);
      wrong_ = saved_->at("wrong").item<int64_t>();
    }
    const int64_t maximum = hyper_.integer("max_iters");
    bool stopped = false, finite = true;
    while (true) {
      const int64_t iteration = optimiser.steps();
      const bool in_series = iteration % kSeriesEvery == 0;
      bool ended = false;
      std::optional<double> judged;
      try {
        const auto begin = std::chrono::steady_clock::now();
        wrong_ = add_gradients(gradients, &finite, iteration == maximum);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        ended = !finite || wrong_ == 0 || iteration == maximum;
        if (iteration == 0 && !ended && made_few(took.count())) continue;
        if (held_back_.size() > 0 && finite && (ended || in_series))
          judged = accuracy(network_, held_back_, {context_.batch(), stop_});
        if (!ended && has_dropout_) add_update_gradient(gradients, iteration);
      } catch (const FixStopped&) {
        stopped = true;
        break;
      }
      if (judged) log.series["validation_accuracy"].push_back(*judged);
      if (judged && iteration > 0 && wrong_ < specific_.size()) kept_.offer(optimiser, *judged, wrong_);
      if (ended || (in_series && out_of_patience(iteration))) break;
      const at::Tensor mask = mask_of(gradients, iteration);
      if (in_series) {
        log.series["still_wrong"].push_back(static_cast<double>(wrong_));
        log.series["mask_density"].push_back(
            mask.defined() ? mask.sum().item<double>() / static_cast<double>(mask.numel()) : 1);
      }
      const auto all = static_cast<double>(general_.size() + specific_.size());
      const at::Tensor sum =
          has_dropout_ ? gradients.sum(rest) : gradients.sum(specific) + gradients.sum(rest);
      optimiser.step(sum / all, mask);
      context_.progress(static_cast<double>(iteration + 1) / static_cast<double>(maximum), "train");
      if (context_.checkpoint_due()) save(optimiser);
    }
    if (stopped) save(optimiser);
    return conclude(optimiser, stopped, finite);
  }

  // Whether so many steps have gone by since the kept weights, or since the original, that later ones are not
  // waited for.
  bool out_of_patience(int64_t iteration) const {
    const int64_t patience = hyper_.integer("patience");
    return held_back_.size() > 0 && patience > 0 && iteration - std::max<int64_t>(kept_.step, 0) >= patience;
  }

  FixResult conclude(const train::MaskedOptimiser& optimiser, bool stopped, bool finite) {
    FixLog& log = context_.log();
    const std::string steps = std::to_string(optimiser.steps());
    log.counters["optimiser_steps"] = optimiser.steps();
    at::Tensor moved = optimiser.moved();
    if (kept_.any()) {
      log.scalars["kept_step"] = static_cast<double>(kept_.step);
      optimiser.weights().write(network_, kept_.values);
      moved = kept_.moved;
      wrong_ = kept_.still_wrong;
    }
    const int64_t repaired = specific_.size() - wrong_;
    log.scalars["specific_repaired"] = static_cast<double>(repaired);
    log.scalars["moved"] = moved.sum().item<double>() / static_cast<double>(optimiser.weights().size());
    FixResult result;
    if ((stopped && optimiser.steps() == 0) || (repaired == 0 && finite)) {
      result.failure = {stopped ? "timeout" : "no_fix",
                        "no specific input is repaired after " + steps + " steps"};
      return result;
    }
    result.touched = optimiser.weights().touched(moved);
    result.note = note(steps, stopped, finite);
    result.network = std::move(network_);
    return result;
  }

  // Of the weights handed on, after a training of so many steps.
  std::string note(const std::string& steps, bool stopped, bool finite) const {
    std::vector<std::string> parts;
    if (stopped) parts.push_back("stopped after " + steps + " steps");
    if (!finite) parts.push_back("the logits are not finite after " + steps + " steps");
    if (kept_.any())
      parts.push_back("kept step " + std::to_string(kept_.step) + " of " + steps +
                      ", by validation accuracy");
    if (hyper_.text("keep") == "best" && !kept_.any())
      parts.push_back(held_back_.size() > 0 ? "the last weights: none were judged on validation yet"
                                            : "the last weights: no validation split to choose by");
    if (wrong_ > 0) {
      const std::string after = kept_.any() ? std::to_string(kept_.step) : steps;
      parts.push_back(std::to_string(wrong_) + " of " + std::to_string(specific_.size()) +
                      " specific inputs still wrong after " + after + " steps");
    }
    if (specific_.size() < faults_)
      parts.push_back(std::to_string(specific_.size()) + " of " + std::to_string(faults_) +
                      " faults take part");
    if (general_.size() < general_wanted())
      parts.push_back(std::to_string(general_.size()) + " general inputs in place of " +
                      std::to_string(general_wanted()));
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
    return text;
  }

  // One pass over G and S, unless it is stopped: sums of the three gradients, or `only_count`; how many of S
  // are still wrong.
  int64_t add_gradients(train::WeightGradients& gradients, bool* finite, bool only_count) {
    gradients.clear();
    int64_t wrong = 0;
    at::Tensor all_finite = at::ones({}, at::TensorOptions(at::kBool).device(original_.device()));
    const auto pass = [&](const InputSet& inputs, bool of_specific) {
      for (int64_t begin = 0; begin < inputs.size(); begin += chunk_) {
        stop_.check();
        const Chunk part = chunk(inputs, begin);
        const at::Tensor z = gradients.forward(part.x);
        all_finite.logical_and_(z.isfinite().all());
        const at::Tensor seed = cross_entropy_seed(z, part.label);
        if (!of_specific) {
          gradients.backward(z.sign(), {{.inputs = {}, .sum = general}});
          if (!has_dropout_) gradients.backward(seed, {{.inputs = {}, .sum = rest}});
          continue;
        }
        const at::Tensor still = still_wrong(z, part.label).cpu();  // the one thing a chunk waits for
        wrong += still.sum().item<int64_t>();
        if (only_count) continue;
        const auto rows = [&](const at::Tensor& chosen) {
          return chosen.nonzero().flatten().to(original_.device());
        };
        std::vector<train::WeightGradients::Group> groups = {{rows(still), specific}};
        if (!has_dropout_) groups.push_back({rows(still.logical_not()), rest});
        gradients.backward(seed, groups);
      }
    };
    pass(specific_, true);
    if (wrong > 0 && !only_count) pass(general_, false);
    *finite = all_finite.item<bool>();
    return wrong;
  }

  // With dropout the gradient of the update is another one than that of the masks (IR.md, Steps in this
  // project, 4).
  void add_update_gradient(train::WeightGradients& gradients, int64_t iteration) {
    const auto pass = [&](const InputSet& inputs, const std::string& name) {
      for (int64_t begin = 0; begin < inputs.size(); begin += chunk_) {
        stop_.check();
        const Chunk part = chunk(inputs, begin);
        const uint64_t masks =
            context_.seed("dropout/" + name + "/" + std::to_string(iteration) + "/" + std::to_string(begin));
        const at::Tensor z = gradients.forward(part.x, masks);
        gradients.backward(cross_entropy_seed(z, part.label), {{.inputs = {}, .sum = rest}});
      }
    };
    pass(general_, "general");
    pass(specific_, "specific");
  }

  struct Chunk {
    at::Tensor x, label;  // on the device
  };
  Chunk chunk(const InputSet& inputs, int64_t begin) {
    const auto kept = chunks_.find({&inputs, begin});
    if (kept != chunks_.end()) return kept->second;
    const int64_t end = std::min(inputs.size(), begin + chunk_);
    const Chunk loaded = {inputs.load(begin, end, original_.device()),
                          inputs.labels(begin, end, original_.device())};
    const int64_t all = specific_.size() + general_.size();
    const int64_t kept_numbers = values_together(original_.device(), kKeptOnCpu);
    if (all * loaded.x[0].numel() <= kept_numbers) chunks_[{&inputs, begin}] = loaded;
    return loaded;
  }

  // Of the summed cross-entropy, with respect to the logits.
  static at::Tensor cross_entropy_seed(const at::Tensor& z, const at::Tensor& label) {
    return z.softmax(1) - at::one_hot(label, z.size(1)).to(z.scalar_type());
  }

  // bool (n): taken for another class, or with `tau` not by that margin the most probable one.
  at::Tensor still_wrong(const at::Tensor& z, const at::Tensor& label) const {
    const double tau = hyper_.number("tau");
    if (tau == 0) return z.argmax(1) != label;  // the margin misses exact ties
    const at::Tensor p = z.softmax(1);
    const at::Tensor own = p.gather(1, label.unsqueeze(1)).squeeze(1);
    return p.scatter(1, label.unsqueeze(1), -1).amax(1) - own + tau > 0;
  }

  // Which weights may move in a step; undefined: all.
  virtual at::Tensor mask_of(const train::WeightGradients& gradients, int64_t) const {
    return hyper_.text("masks") == "none" ? at::Tensor() : influence_mask(gradients);
  }

  // |g_S| + guard >= gamma |g_G| + guard (IR.md, Formulas).
  at::Tensor influence_mask(const train::WeightGradients& gradients) const {
    const double gamma = hyper_.number("gamma");
    const at::Tensor g_general = gradients.sum(general) / static_cast<double>(general_.size());
    const at::Tensor g_specific = gradients.sum(specific) / static_cast<double>(wrong_);
    return g_specific.abs_().add_(kGuard).ge(g_general.abs_().mul_(gamma).add_(kGuard));
  }

  std::vector<std::string> series() const {
    std::vector<std::string> names = {"still_wrong", "mask_density"};
    if (held_back_.size() > 0) names.push_back("validation_accuracy");
    return names;
  }

  void save(const train::MaskedOptimiser& optimiser) {
    CheckpointState state = {{"specific", locate::position_table(specific_.positions)},
                             {"general", locate::position_table(general_.positions)},
                             {"faults", at::scalar_tensor(faults_, at::kLong)},
                             {"wrong", at::scalar_tensor(wrong_, at::kLong)}};
    train::save_series(context_.log(), series(), state);
    optimiser.save(state, "ir");
    kept_.save(state, "kept");
    context_.save_checkpoint(state);
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  Network network_;
  int64_t chunk_;  // inputs at once
  bool has_dropout_;
  std::optional<CheckpointState> saved_;
  std::string source_;                       // split of the general inputs
  InputSet specific_, general_, held_back_;  // held back: what the weights to keep are chosen by
  int64_t faults_ = 0;                       // of the repair split
  int64_t wrong_ = 0;                        // of the specific inputs, as the last whole pass counted them
  train::KeptWeights kept_;
  const Stop stop_;
  std::map<std::pair<const InputSet*, int64_t>, Chunk> chunks_;  // where all of them are few
};

// RAND:IR: each weight may move as often as those of the real mask do.
class RandomIRepair final : public IRepair {
 public:
  using IRepair::IRepair;

 protected:
  at::Tensor mask_of(const train::WeightGradients& gradients, int64_t iteration) const override {
    const at::Tensor mask = influence_mask(gradients);
    const at::Generator draws =
        at::detail::createCPUGenerator(context_.seed("masks/" + std::to_string(iteration)));
    const at::Tensor density = mask.sum().to(at::kDouble).div_(static_cast<double>(mask.numel()));
    const at::Tensor drawn = at::rand(mask.sizes(), draws, at::TensorOptions(at::kDouble));
    return drawn.to(mask.device()).lt(density);
  }
};

std::vector<HyperparameterSpec> hyperparameter_specs() {
  const std::string hyper = "public code, vas-group-imperial/I-Repair (Henriksen et al., SAC 2022)",
                    choice = "our choice";
  const auto nullable = [](HyperparameterSpec spec) {
    spec.default_value = nullptr;
    spec.nullable = true;
    return spec;
  };
  return {
      number_spec("gamma", 1, "a weight moves where |specific influence| is at least gamma |general one|",
                  hyper, 0),
      nullable(number_spec("learning_rate", 0, "of RMSProp; null: 1e-4, and 1e-5 for convolutional networks",
                           hyper, 0)),
      integer_spec("max_iters", 5000, "most steps", "steps", hyper, 1),
      integer_spec("general", 0,
                   "correct inputs, balanced over the classes; 0: ten times the specific ones, at least 40",
                   "inputs", choice + ": the public scripts take 40 to 200 for 1 to 40 specific ones", 0),
      nullable(integer_spec("max_specific", 0,
                            "most misclassified inputs, balanced over the classes; null: all", "inputs",
                            choice, 1)),
      nullable(in_unit("seconds", number_spec("cap_seconds", 0,
                                              "where 200 steps would take longer, by the first one, 40 "
                                              "misclassified inputs take part; null: no limit",
                                              choice, 0))),
      choice_spec("keep", "best",
                  "which weights are returned: the last ones, or by the accuracy on half of the validation "
                  "split, every 20 steps",
                  choice, {"best", "last"}),
      integer_spec("patience", 500,
                   "stop after so many steps without better weights (keep = best); 0: only at max_iters",
                   "steps", choice, 0),
      number_spec("tau", 0, "by how much a specific input's own class must be the most probable", hyper, 0,
                  1),
      choice_spec("masks", "influence", "none: plain retraining on the same inputs, the paper's baseline",
                  hyper, {"influence", "none"}),
  };
}

std::optional<Refusal> adapt(const FixRequest& request) {
  const ImportReport& report = request.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (train::trainable_parameters(*request.network).empty())
    return Refusal{"structure", "no weight that training moves"};
  if (request.repair_faults && *request.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

FixResult repair(const Network& original, FixContext& context, const Hyperparameters& parameters) {
  return IRepair(original, context, parameters).run();
}

const bool registered = register_approach({
    .info = {.key = "IR",
             .name = "I-REPAIR",
             .level = Level::neuron,
             .basis = Basis::reference_code,
             .publication = "ACM SAC 2022",
             .version = 3,
             .needs = {"repair"},
             .uses = {"validation", "train"},
             .hyperparameters = hyperparameter_specs(),
             .in_study = true},
    .adapt = adapt,
    .fix = [](const Network& original,
              FixContext& context) { return repair(original, context, context.hyperparameters()); },
    .fix_with_random_locator =
        [](const Network& original, FixContext& context, const Hyperparameters& parameters) {
          return RandomIRepair(original, context, parameters).run();
        },
    .fix_for_its_steps = repair,
});

}  // namespace
}  // namespace harness

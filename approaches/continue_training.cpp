// CT, a control: goes on training the original for some steps, without any repair logic. What an approach
// that trains gains over CT:KEY, which makes as many steps as that approach, is its own merit. Many an
// approach stops early, so CT:KEY first makes the fix of KEY and counts.
#include <ATen/ATen.h>

#include <span>

#include "approaches/shadowed.hpp"
#include "approaches/train/trainer.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

constexpr int64_t kStepsPerSeriesEntry = 50;  // over which "training_loss" is averaged
const std::string kSteps = "ct.steps";        // in a checkpoint of the training
const std::string kCount = "count";           // phase

std::optional<Refusal> adapt(const FixRequest& request) {
  if (const auto refusal = train::refuse_without_training(request)) return refusal;
  if (request.shadow.empty()) return std::nullopt;
  const Approach* shadowed = find_approach(request.shadow);
  if (shadowed == nullptr || !shadowed->fix_for_its_steps) {
    return Refusal{"structure",
                   request.shadow + " makes no optimiser steps on images that training could make as well"};
  }
  return refuse_as_shadowed(*shadowed, request);
}

TrainingConfig recipe_of(const FixContext& context) {
  TrainingConfig recipe = context.training().value_or(train::default_recipe());
  if (!context.hyperparameters().is_null("learning_rate"))
    recipe.learning_rate = context.hyperparameters().number("learning_rate");
  return recipe;
}

// The steps to make; nothing, and why, where counting them was stopped (the checkpoint is then that of KEY's
// fix) or that fix ended before it made any.
std::optional<int64_t> steps_of(const Network& original, FixContext& context, Refusal* why) {
  if (context.shadow().empty()) return context.hyperparameters().integer("steps");
  const std::optional<CheckpointState>& saved = context.load_checkpoint();
  if (saved && saved->count(kSteps) > 0) return saved->at(kSteps).item<int64_t>();
  const Approach* shadowed = find_approach(context.shadow());
  if (shadowed == nullptr || !shadowed->fix_for_its_steps)
    interface_misuse("CT cannot imitate " + context.shadow());
  FixLog& log = context.log();
  {
    const PhaseTimer timer(log, kCount);
    const Hyperparameters parameters = hyperparameters_of(shadowed->info, context.hyperparameters());
    *why = shadowed->fix_for_its_steps(original, context, parameters).failure;
  }
  if (context.stop().seen()) {
    *why = {"timeout", "stopped before the steps of " + context.shadow() + " were counted"};
    return std::nullopt;
  }
  const auto logged = log.counters.find("optimiser_steps");
  if (logged == log.counters.end()) return std::nullopt;
  const int64_t steps = logged->second;
  // the record is to say what the training did, not what that fix did
  log.counters.clear();
  log.scalars.clear();
  log.series.clear();
  std::erase_if(log.phases, [](const auto& phase) { return phase.first != kCount; });
  return steps;
}

// Losses stay on the device until a mean of them is due: reading one waits for the device.
class LossSeries {
 public:
  explicit LossSeries(std::vector<double>& means) : means_(means) {}
  void add(const at::Tensor& loss) {
    unread_.push_back(loss);
    if (count_ + std::ssize(unread_) == kStepsPerSeriesEntry) close();
  }
  void close() {
    read();
    if (count_ > 0) means_.push_back(sum_ / static_cast<double>(count_));
    sum_ = 0;
    count_ = 0;
  }
  void save(CheckpointState& state) {
    read();
    state["loss.means"] = at::tensor(means_, at::kDouble);
    state["loss.open"] = at::tensor(std::vector<double>{sum_, static_cast<double>(count_)}, at::kDouble);
  }
  void load(const CheckpointState& state) {
    const at::Tensor means = state.at("loss.means"), open = state.at("loss.open");
    means_.assign(means.data_ptr<double>(), means.data_ptr<double>() + means.numel());
    sum_ = open[0].item<double>();
    count_ = static_cast<int64_t>(open[1].item<double>());
  }

 private:
  void read() {
    if (unread_.empty()) return;
    const at::Tensor losses = at::stack(unread_).to(at::kCPU, at::kDouble);
    for (const double loss : std::span(losses.const_data_ptr<double>(), unread_.size())) sum_ += loss;
    count_ += std::ssize(unread_);
    unread_.clear();
  }

  std::vector<double>& means_;
  double sum_ = 0;  // of `count_` losses since the last mean, but for those not read yet
  int64_t count_ = 0;
  std::vector<at::Tensor> unread_;
};

// Trains `network`; the number of steps made, fewer than `steps` when it is stopped.
int64_t train(Network& network, int64_t steps, const TrainingConfig& recipe, FixContext& context) {
  std::optional<CheckpointState> saved = context.load_checkpoint();
  if (saved && saved->count(kSteps) == 0) saved.reset();  // of the fix whose steps were counted
  LossSeries losses(context.log().series["training_loss"]);
  if (saved) losses.load(*saved);
  train::Trainer trainer(network, context.split("train"), recipe, context.seed("train"), saved);
  const auto save = [&] {
    CheckpointState state = trainer.state();
    losses.save(state);
    state[kSteps] = at::scalar_tensor(steps, at::kLong);
    context.save_checkpoint(state);
  };
  while (trainer.steps() < steps) {
    if (context.stop().requested()) {
      save();
      break;
    }
    losses.add(trainer.step());
    context.progress(static_cast<double>(trainer.steps()) / static_cast<double>(steps), "train");
    if (context.checkpoint_due()) save();
  }
  losses.close();
  return trainer.steps();
}

FixResult fix(const Network& original, FixContext& context) {
  FixResult result;
  const std::optional<int64_t> counted = steps_of(original, context, &result.failure);
  if (!counted) return result;
  result.failure = {};
  const PhaseTimer timer(context.log(), "train");
  const int64_t steps = *counted;
  result.touched.everything = true;
  result.network = original.fork();
  const int64_t made = train(*result.network, steps, recipe_of(context), context);
  context.log().counters["optimiser_steps"] = made;
  if (made < steps) {
    result.note = "stopped after " + std::to_string(made) + " of " + std::to_string(steps) + " steps";
    if (made == 0) {
      result.network.reset();
      result.failure = {"timeout", "stopped before the first step"};
    }
  }
  return result;
}

const bool registered = register_approach({
    .info = {.key = "CT",
             .name = "Continued training (control)",
             .level = Level::control,
             .publication = "this project",
             .version = 2,
             .needs = {"train"},
             .uses = {"repair", "validation"},
             .hyperparameters =
                 {{.name = "steps",
                   .type = HyperparameterType::integer,
                   .default_value = 500,
                   .meaning = "optimiser steps; CT:KEY makes as many as KEY makes, counted by making its fix",
                   .unit = "steps",
                   .source = "our choice",
                   .minimum = 0},
                  {.name = "learning_rate",
                   .default_value = nullptr,
                   .meaning =
                       "instead of the training recipe's; a subject without one: Adam, 1e-4, batch 128",
                   .unit = "number",
                   .source = "our choice",
                   .minimum = 0,
                   .nullable = true}},
             .shadows = true,
             .alone = true},
    .adapt = adapt,
    .fix = fix,
    .can_imitate = [](const Approach& other) { return static_cast<bool>(other.fix_for_its_steps); },
});

}  // namespace
}  // namespace harness

// CT, a control: goes on training the original for some steps, without any repair logic. What a retraining
// approach gains over CT:KEY, which makes as many steps as that approach, is its own merit.
#include <ATen/ATen.h>

#include <span>

#include "approaches/train/trainer.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

constexpr int64_t kStepsPerSeriesEntry = 50;  // over which "training_loss" is averaged

std::optional<Refusal> adapt(const AdaptContext& context) {
  if (const auto refusal = refuse_without_training(context)) return refusal;
  if (context.shadow.empty()) return std::nullopt;
  const Approach* shadowed = find_approach(context.shadow);
  if (shadowed != nullptr && shadowed->optimiser_steps) return std::nullopt;
  return Refusal{"structure", context.shadow + " makes no optimiser steps that could be imitated"};
}

TrainingConfig recipe_of(const FixContext& context) {
  TrainingConfig recipe = context.training().value_or(default_recipe());
  if (!context.parameters().is_null("learning_rate"))
    recipe.learning_rate = context.parameters().number("learning_rate");
  return recipe;
}

int64_t steps_of(const FixContext& context, const TrainingConfig& recipe) {
  if (context.shadow().empty()) return context.parameters().integer("steps");
  const Approach* shadowed = find_approach(context.shadow());
  if (shadowed == nullptr || !shadowed->optimiser_steps)
    interface_misuse("CT cannot imitate " + context.shadow());
  return shadowed->optimiser_steps(parameters_of(shadowed->info, context.parameters()), recipe,
                                   context.split("train").size());
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

// Trains `network`; the number of steps made, fewer than `steps` when asked to stop.
int64_t train(Network& network, int64_t steps, const TrainingConfig& recipe, FixContext& context) {
  const std::optional<CheckpointState> saved = context.load_checkpoint();
  LossSeries losses(context.log().series["training_loss"]);
  if (saved) losses.load(*saved);
  Trainer trainer(network, context.split("train"), recipe, context.seed("train"), saved);
  const auto save = [&] {
    CheckpointState state = trainer.state();
    losses.save(state);
    context.save_checkpoint(state);
  };
  while (trainer.steps() < steps) {
    if (context.should_stop()) {
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
  const PhaseTimer timer(context.log(), "train");
  const TrainingConfig recipe = recipe_of(context);
  const int64_t steps = steps_of(context, recipe);
  FixResult result;
  result.touched.everything = true;
  result.network = original.fork();
  const int64_t made = train(*result.network, steps, recipe, context);
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
    .info =
        {.key = "CT",
         .name = "Continued training (control)",
         .level = Level::control,
         .publication = "this project",
         .version = 2,
         .needs = {"train"},
         .parameters = {{.name = "steps",
                         .type = ParameterType::integer,
                         .default_value = 500,
                         .meaning = "optimiser steps; CT:KEY makes as many as KEY instead",
                         .unit = "steps",
                         .source = "this project",
                         .minimum = 0},
                        {.name = "learning_rate",
                         .default_value = nullptr,
                         .meaning =
                             "instead of the training recipe's; a subject without one: Adam, 1e-4, batch 128",
                         .unit = "",
                         .source = "this project",
                         .minimum = 0,
                         .nullable = true}}},
    .adapt = adapt,
    .fix = fix,
});

}  // namespace
}  // namespace harness

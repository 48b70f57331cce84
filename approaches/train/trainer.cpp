#include "approaches/train/trainer.hpp"

#include <ATen/ATen.h>
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <algorithm>

#include "approaches/train/augment.hpp"
#include "harness/core/error.hpp"

namespace harness::train {
namespace {

std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::vector<at::Tensor> parameters,
                                                        const TrainingConfig& recipe) {
  if (recipe.optimizer == "adam") {
    return std::make_unique<torch::optim::Adam>(
        std::move(parameters),
        torch::optim::AdamOptions(recipe.learning_rate).weight_decay(recipe.weight_decay));
  }
  if (recipe.optimizer != "sgd") interface_misuse("unknown optimiser: " + recipe.optimizer);
  return std::make_unique<torch::optim::SGD>(std::move(parameters),
                                             torch::optim::SGDOptions(recipe.learning_rate)
                                                 .momentum(recipe.momentum)
                                                 .weight_decay(recipe.weight_decay));
}

std::string key(const char* what, size_t number) {
  return "trainer." + std::string(what) + "." + std::to_string(number);
}

}  // namespace

struct Trainer::Implementation {
  Network& network;
  const Split& split;
  TrainingConfig recipe;
  uint64_t seed;
  int64_t step = 0;
  int64_t batch = 0;
  int64_t epoch_of_order = -1;
  std::vector<int64_t> order = {};
  std::vector<at::Tensor> trained = {};
  std::unique_ptr<torch::optim::Optimizer> optimizer = nullptr;

  int64_t steps_per_epoch() const { return split.size() / batch; }

  at::Tensor next_batch() {
    const int64_t epoch = step / steps_per_epoch(), begin = step % steps_per_epoch() * batch;
    if (epoch != epoch_of_order) {
      order = RandomStream(derive_seed(seed, "epoch/" + std::to_string(epoch))).permutation(split.size());
      epoch_of_order = epoch;
    }
    return at::tensor(std::vector<int64_t>(order.begin() + begin, order.begin() + begin + batch), at::kLong);
  }

  // An optimiser's state of one parameter as named tensors.
  void save_moments(size_t number, CheckpointState& state) const {
    const auto entry = optimizer->state().find(trained[number].unsafeGetTensorImpl());
    if (entry == optimizer->state().end()) return;
    if (recipe.optimizer == "adam") {
      const auto& moments = static_cast<const torch::optim::AdamParamState&>(*entry->second);
      state[key("adam_step", number)] = at::scalar_tensor(moments.step(), at::kLong);
      state[key("first_moment", number)] = moments.exp_avg().detach().cpu().clone();
      state[key("second_moment", number)] = moments.exp_avg_sq().detach().cpu().clone();
    } else if (const auto& sgd = static_cast<const torch::optim::SGDParamState&>(*entry->second);
               sgd.momentum_buffer().defined()) {
      state[key("momentum", number)] = sgd.momentum_buffer().detach().cpu().clone();
    }
  }

  void load_moments(size_t number, const CheckpointState& state) {
    const auto moved = [&](const char* what) {
      return state.at(key(what, number)).to(network.device()).clone();
    };
    if (state.count(key("adam_step", number)) > 0) {
      auto moments = std::make_unique<torch::optim::AdamParamState>();
      moments->step(state.at(key("adam_step", number)).item<int64_t>());
      moments->exp_avg(moved("first_moment"));
      moments->exp_avg_sq(moved("second_moment"));
      optimizer->state()[trained[number].unsafeGetTensorImpl()] = std::move(moments);
    } else if (state.count(key("momentum", number)) > 0) {
      auto moments = std::make_unique<torch::optim::SGDParamState>();
      moments->momentum_buffer(moved("momentum"));
      optimizer->state()[trained[number].unsafeGetTensorImpl()] = std::move(moments);
    }
  }
};

Trainer::Trainer(Network& network, const Split& split, const TrainingConfig& recipe, uint64_t seed,
                 const std::optional<CheckpointState>& resumed)
    : self_(new Implementation{.network = network, .split = split, .recipe = recipe, .seed = seed}) {
  self_->batch = std::min(recipe.batch, split.size());
  if (resumed) {
    self_->step = resumed->at("trainer.step").item<int64_t>();
    for (size_t id = 0; id < network.parameters().size(); ++id) {
      network.set_parameter(static_cast<ParameterId>(id), resumed->at(key("parameter", id)));
    }
  }
  network.require_grad(true);
  for (const Parameter& parameter : network.parameters()) {
    if (parameter.trainable) self_->trained.push_back(parameter.value);
  }
  self_->optimizer = make_optimizer(self_->trained, recipe);
  for (size_t number = 0; resumed && number < self_->trained.size(); ++number)
    self_->load_moments(number, *resumed);
}

Trainer::~Trainer() {
  self_->optimizer->zero_grad(/*set_to_none=*/true);
  self_->network.require_grad(false);
}

at::Tensor Trainer::step() {
  Implementation& self = *self_;
  const at::AutoGradMode with_grad(true);
  const std::string number = std::to_string(self.step);
  const at::Tensor indices = self.next_batch();
  RandomStream stream(derive_seed(self.seed, "augment/" + number));
  const at::Tensor x =
      augmented(self.split.inputs(indices), self.recipe.augmentation, stream).to(self.network.device());
  const at::Tensor labels = self.split.labels().index_select(0, indices).to(self.network.device());
  self.optimizer->zero_grad(/*set_to_none=*/true);
  const uint64_t dropout = derive_seed(self.seed, "dropout/" + number);
  const at::Tensor loss = at::cross_entropy_loss(self.network.training_logits(x, dropout), labels);
  loss.backward();
  self.optimizer->step();
  ++self.step;
  return loss.detach();
}

int64_t Trainer::steps() const {
  return self_->step;
}

int64_t Trainer::steps_per_epoch() const {
  return self_->steps_per_epoch();
}

CheckpointState Trainer::state() const {
  CheckpointState state;
  state["trainer.step"] = at::scalar_tensor(self_->step, at::kLong);
  const std::vector<Parameter>& parameters = self_->network.parameters();
  for (size_t id = 0; id < parameters.size(); ++id) {
    state[key("parameter", id)] = parameters[id].value.detach().cpu().clone();
  }
  for (size_t number = 0; number < self_->trained.size(); ++number) self_->save_moments(number, state);
  return state;
}

TrainingConfig default_recipe() {
  TrainingConfig recipe;
  recipe.optimizer = "adam";
  recipe.learning_rate = 1e-4;
  return recipe;
}

std::optional<Refusal> refuse_without_training(const FixRequest& request) {
  const ImportReport& report = request.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (!report.training_limitation.empty()) return Refusal{"structure", report.training_limitation};
  return std::nullopt;
}

}  // namespace harness::train

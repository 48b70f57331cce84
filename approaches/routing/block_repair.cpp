#include "approaches/routing/block_repair.hpp"

#include <ATen/ATen.h>
#include <c10/util/ScopeExit.h>

#include <algorithm>

#include "harness/model/autograd.hpp"

namespace harness::routing {
namespace {

std::string key(const char* what, size_t number) {
  return "repair." + std::string(what) + "." + std::to_string(number);
}

}  // namespace

BlockRepair::BlockRepair(Network& network, std::vector<RepairedBlock> blocks, const InputSet& faulty,
                         const InputSet& clean, const BlockRepairSettings& settings)
    : network_(network), blocks_(std::move(blocks)), faulty_(faulty), clean_(clean), settings_(settings) {
  optimisers_.reserve(blocks_.size());
  for (const RepairedBlock& of : blocks_) {
    std::vector<ParameterId> moved = {of.block.weight};
    at::Tensor mask = of.mask;
    if (of.block.bias >= 0) {
      moved.push_back(of.block.bias);
      const int64_t biases = network.parameters()[of.block.bias].value.numel();
      mask = at::cat({mask, at::ones({biases}, mask.options())});
    }
    masks_.push_back(mask);
    optimisers_.emplace_back(
        network, std::move(moved),
        train::UpdateRule{.kind = train::UpdateRule::Kind::sgd, .learning_rate = settings.learning_rate});
  }
  for (const Node& node : network.nodes()) {
    if (node.kind != NodeKind::batch_norm || !settings.train_mode) continue;
    for (size_t role = 2; role < node.parameters.size(); ++role) {
      if (node.parameters[role] >= 0) averages_.push_back(node.parameters[role]);
    }
  }
  for (const train::MaskedOptimiser& optimiser : optimisers_) {
    const std::vector<ParameterId>& own = optimiser.weights().parameters();
    changing_.insert(changing_.end(), own.begin(), own.end());
  }
  changing_.insert(changing_.end(), averages_.begin(), averages_.end());
  kept_.emplace(KeptValues::Setup{.network = network,
                                  .moved = layers(),
                                  .training = settings.train_mode,
                                  .inputs = faulty.size() + clean.size() + settings.batch,
                                  .limit = settings.cache_limit});
}

// `loss` of the faults begin..end, in a mode.
template <typename Loss>
bool BlockRepair::train(size_t k, int64_t pass, int64_t inputs, const Loss& loss) {
  const at::AutoGradMode record(true);
  std::vector<at::Tensor> moved;
  for (const ParameterId id : optimisers_[k].weights().parameters())
    moved.push_back(network_.parameters()[id].value.requires_grad_(true));
  const auto constants = c10::make_scope_exit([&] {
    for (const at::Tensor& value : moved) value.requires_grad_(false);
  });
  // Read once: whoever reads it in each step waits for the device in each step.
  at::Tensor finite = at::ones({}, at::TensorOptions(at::kBool).device(network_.device()));
  for (int64_t begin = 0; begin < inputs; begin += settings_.batch) {
    settings_.stop.check();
    const int64_t end = std::min(inputs, begin + settings_.batch);
    if (settings_.train_mode && end - begin < 2) continue;  // one input has no batch statistics
    const PassMode mode{settings_.train_mode,
                        derive_seed(settings_.seed, std::to_string(pass) + "/" + std::to_string(begin))};
    const at::Tensor value = loss(begin, end, mode);
    finite.logical_and_(value.detach().isfinite());
    const auto gradients = grad({value}, moved);
    optimisers_[k].step(optimisers_[k].weights().join(gradients), masks_[k]);
  }
  return finite.item<bool>();
}

at::Tensor BlockRepair::probe_logits(const RepairedBlock& of, const InputSet& inputs, int64_t begin,
                                     int64_t end, const PassMode& mode) {
  std::map<NodeId, at::Tensor> known = kept_->known(inputs, begin, end);
  const at::Tensor read = evaluate_onto(network_, of.block.output, known, mode);
  if (mode.training) {  // for its running averages
    const at::NoGradGuard constant;
    evaluate_onto(network_, network_.logits_node(), known, mode);
  }
  return of.probe.logits(read, mode.training);
}

at::Tensor BlockRepair::probe_loss(const RepairedBlock& of, int64_t begin, int64_t end,
                                   const PassMode& mode) {
  at::Tensor right;
  {
    const at::NoGradGuard constant;
    right = probe_logits(of, clean_, begin, end, {mode.training, derive_seed(mode.seed, "clean")});
  }
  const at::Tensor wrong = probe_logits(of, faulty_, begin, end, mode);
  const at::Tensor kept =
      -((right / settings_.temperature).softmax(1) * (wrong / settings_.temperature).log_softmax(1))
           .sum(1)
           .mean();
  const at::Tensor label = faulty_.labels(begin, end, network_.device());
  return settings_.alpha * at::cross_entropy_loss(wrong, label) + (1 - settings_.alpha) * kept;
}

bool BlockRepair::train_on_probe(size_t k, int64_t pass) {
  // Batches are zipped, the shorter one cut: the last pair may be smaller than a batch.
  return train(k, pass, std::min(faulty_.size(), clean_.size()),
               [&](int64_t begin, int64_t end, const PassMode& mode) {
                 return probe_loss(blocks_[k], begin, end, mode);
               });
}

bool BlockRepair::train_on_output(size_t k, int64_t pass) {
  return train(k, pass, faulty_.size(), [&](int64_t begin, int64_t end, const PassMode& mode) {
    const at::Tensor z =
        evaluate_part(network_, network_.logits_node(), kept_->known(faulty_, begin, end), mode);
    return at::cross_entropy_loss(z, faulty_.labels(begin, end, network_.device()));
  });
}

std::vector<NodeId> BlockRepair::layers() const {
  std::vector<NodeId> ids;
  for (const RepairedBlock& of : blocks_) ids.push_back(of.block.layer);
  return ids;
}

int64_t BlockRepair::steps() const {
  int64_t sum = 0;
  for (const train::MaskedOptimiser& optimiser : optimisers_) sum += optimiser.steps();
  return sum;
}

Touched BlockRepair::touched() const {
  Touched touched;
  for (const train::MaskedOptimiser& optimiser : optimisers_)
    touched.weights.merge(optimiser.weights().touched(optimiser.moved()).weights);
  for (const ParameterId id : averages_) touched.weights[network_.parameters()[id].name] = {};
  return touched;
}

void BlockRepair::save(CheckpointState& state) const {
  for (size_t k = 0; k < blocks_.size(); ++k) {
    optimisers_[k].save(state, key("weights", k));
    blocks_[k].probe.save(state, key("probe", k));
  }
  for (size_t k = 0; k < averages_.size(); ++k)
    state[key("average", k)] = network_.parameters()[averages_[k]].value.detach().cpu().clone();
}

void BlockRepair::load(const CheckpointState& state) {
  for (size_t k = 0; k < blocks_.size(); ++k) {
    optimisers_[k].load(state, key("weights", k));
    blocks_[k].probe.load(state, key("probe", k));
  }
  for (size_t k = 0; k < averages_.size(); ++k)
    network_.set_parameter(averages_[k], state.at(key("average", k)));
}

}  // namespace harness::routing

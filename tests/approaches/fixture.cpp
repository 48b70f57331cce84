#include "tests/approaches/fixture.hpp"

#include <ATen/Parallel.h>

#include <cstring>

#include "tests/support.hpp"

namespace harness::testing {
namespace {

const char* const kTinyProgram = R"(
import sys, h5py, numpy as np, torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.fc1 = nn.Linear(16, 10)
        self.fc2 = nn.Linear(10, 4)
    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.flatten(torch.tanh(self.conv2(x)), 1)
        return torch.softmax(self.fc2(torch.relu(self.fc1(x))), 1)

torch.manual_seed(5)
net = Tiny().eval()
with torch.no_grad():
    for p in net.parameters():
        p.mul_(3)
torch.jit.script(net).save('@/tiny.pt')
rng = np.random.default_rng(6)
with h5py.File('@/tiny.h5', 'w') as f:
    f.attrs['classes'] = 4
    f.attrs['divisor'] = 1.0
    f.attrs['mean'] = np.zeros(2)
    f.attrs['std'] = np.ones(2)
    for name, n in (('train', 96), ('validation', 24), ('repair', 120), ('test', 24)):
        x = rng.normal(size=(n, 2, 8, 8)).astype('float32')
        with torch.no_grad():
            y = net(torch.tensor(x)).argmax(1).numpy()
        y = np.where(np.arange(n) % 6 == 0, (y + rng.integers(1, 4, n)) % 4, y)
        f.create_dataset(name + '/images', data=x)
        f.create_dataset(name + '/labels', data=y.astype('int64'))
)";

struct Tiny {
  TemporaryFolder folder;
  std::optional<Dataset> data;
  std::optional<Network> network;

  Tiny() {
    at::set_num_threads(1);  // threads only get in each other's way on tensors this small
    std::string program = kTinyProgram;
    for (size_t at; (at = program.find('@')) != std::string::npos;)
      program.replace(at, 1, folder.path().string());
    run_python(program);
    data = Dataset::open(folder / "tiny.h5");
    network = Network::load(folder / "tiny.pt", data->split("repair").inputs(0, 3));
  }
};

const Tiny& tiny() {
  static const Tiny made;
  return made;
}

}  // namespace

const Network& tiny_network() {
  return *tiny().network;
}
const Dataset& tiny_data() {
  return *tiny().data;
}

FixContext::Setup setup_for(const std::string& key, const nlohmann::json& parameters,
                            const std::string& shadow) {
  const Approach* approach = find_approach(key);
  REQUIRE(approach != nullptr);
  nlohmann::json values = hyperparameters_of(approach->info, Hyperparameters(parameters)).values();
  values.update(parameters);  // a control is given its shadow's parameters as well
  FixContext::Setup setup;
  setup.info = &approach->info;
  setup.data = &tiny_data();
  setup.hyperparameters = Hyperparameters(values);
  setup.shadow = shadow;
  setup.seed = 11;
  setup.batch = 50;
  return setup;
}

Outcome run(FixContext::Setup setup, const Network& network) {
  const Approach* approach = find_approach(setup.info->key);
  FixContext context(std::move(setup));
  FixResult result;
  try {
    result = approach->fix(network, context);
  } catch (const FixStopped&) {  // as run_fix() has it
    result.failure = {"timeout", "stopped before there was a fix"};
  }
  return {std::move(result), context.log()};
}

std::vector<std::pair<std::string, int64_t>> changed_values(const Network& a, const Network& b) {
  std::vector<std::pair<std::string, int64_t>> changed;
  REQUIRE(a.parameters().size() == b.parameters().size());
  for (size_t id = 0; id < a.parameters().size(); ++id) {
    const at::Tensor left = a.parameters()[id].value.contiguous(),
                     right = b.parameters()[id].value.contiguous();
    REQUIRE(left.sizes() == right.sizes());
    const size_t size = left.element_size();
    for (int64_t k = 0; k < left.numel(); ++k) {
      if (std::memcmp(static_cast<const char*>(left.data_ptr()) + k * size,
                      static_cast<const char*>(right.data_ptr()) + k * size, size) != 0) {
        changed.emplace_back(a.parameters()[id].name, k);
      }
    }
  }
  return changed;
}

CheckpointSlot MemorySlot::slot() {
  return {[this] { return state; },
          [this](const CheckpointState& given, const FixLog&) {
            state = given;
            ++saves;
          },
          [] { return false; }};
}

// The same fix, whatever stops lay between.
static void require_same(const Outcome& rest, const Outcome& whole) {
  REQUIRE(rest.result.network->digest() == whole.result.network->digest());
  REQUIRE(rest.result.touched.weights == whole.result.touched.weights);
  REQUIRE(rest.result.note == whole.result.note);
  REQUIRE(rest.log.counters == whole.log.counters);
  REQUIRE(rest.log.scalars == whole.log.scalars);
  REQUIRE(rest.log.series == whole.log.series);
}

void require_same_from_checkpoints(const std::string& key, const nlohmann::json& parameters,
                                   const Network& network) {
  std::vector<CheckpointState> states;
  FixContext::Setup setup = setup_for(key, parameters);
  setup.checkpoint = {[] { return std::nullopt; },
                      [&](const CheckpointState& state, const FixLog&) { states.push_back(state); },
                      [] { return true; }};
  const Outcome whole = run(std::move(setup), network);
  REQUIRE(states.size() > 4);
  RandomStream points(3);
  for (int trial = 0; trial < 4; ++trial) {
    const int64_t at = points.below(static_cast<int64_t>(states.size()));
    INFO("checkpoint " << at << " of " << states.size());
    MemorySlot memory;
    memory.state = states[static_cast<size_t>(at)];
    FixContext::Setup again = setup_for(key, parameters);
    again.checkpoint = memory.slot();
    const Outcome rest = run(std::move(again), network);
    REQUIRE(changed_values(*whole.result.network, *rest.result.network).empty());
    REQUIRE(rest.result.touched.weights == whole.result.touched.weights);
    REQUIRE(rest.log.counters == whole.log.counters);
    REQUIRE(rest.log.series == whole.log.series);
  }
}

void require_same_after_stops(const std::function<FixContext::Setup()>& make, const Network& network) {
  int64_t polls = 0;
  FixContext::Setup counted = make();
  counted.stop = [&polls] { return ++polls < 0; };
  const Outcome whole = run(std::move(counted), network);
  REQUIRE(whole.result.network.has_value());
  REQUIRE(polls >= 8);
  RandomStream points(static_cast<uint64_t>(polls));
  std::vector<int64_t> stops = {0, polls - 1};
  for (int trial = 0; trial < 8; ++trial) stops.push_back(points.below(polls));
  int with_network = 0, with_checkpoint = 0;
  for (const int64_t at : stops) {
    INFO("stopped at poll " << at << " of " << polls);
    MemorySlot memory;
    FixContext::Setup first = make();
    first.checkpoint = memory.slot();
    first.stop = [left = at]() mutable { return left-- <= 0; };
    const Outcome part = run(std::move(first), network);
    REQUIRE((part.result.network.has_value() || part.result.failure.code == "timeout"));
    with_network += part.result.network.has_value();
    with_checkpoint += memory.saves > 0;
    FixContext::Setup second = make();
    second.checkpoint = memory.slot();
    const Outcome rest = run(std::move(second), network);
    require_same(rest, whole);
  }
  REQUIRE(with_network > 0);
  REQUIRE(with_checkpoint > 0);
}

}  // namespace harness::testing

// What the fast paths of harness/model/fast, approaches/search and approaches/train gain over the plain way
// on one model and batch: median seconds of processor time of both, run in turns. One JSON line a path; what
// the headers of those paths quote. One thread, unless --threads says otherwise: on a machine with other work
// the ratio of processor times is steadier than that of seconds.
#include <ATen/ATen.h>

#include <algorithm>
#include <cxxopts.hpp>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>

#include "approaches/search/partial_pass.hpp"
#include "approaches/train/weight_gradients.hpp"
#include "harness/data/dataset.hpp"
#include "harness/measure/pgd_step.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/fast/gradient_plan.hpp"
#include "harness/model/fast/inference.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "harness/model/fast/wide.hpp"
#include "tests/benchmarks/setting.hpp"
#include "tests/clock.hpp"

namespace {

using namespace harness;
using testing::processor_seconds;

class Bench {
 public:
  Bench(std::string model, int64_t batch, int rounds)
      : model_(std::move(model)), batch_(batch), rounds_(rounds) {}

  void compare(const std::string& path, const std::function<void()>& plain,
               const std::function<void()>& fast) const {
    std::vector<double> of_plain, of_fast;
    plain();  // warm
    fast();
    for (int round = 0; round < rounds_; ++round) {
      of_plain.push_back(seconds_of(plain));
      of_fast.push_back(seconds_of(fast));
    }
    std::cout << nlohmann::json{{"model", model_},
                                {"batch", batch_},
                                {"path", path},
                                {"plain_seconds", median(of_plain)},
                                {"fast_seconds", median(of_fast)},
                                {"gain", median(of_plain) / median(of_fast)}}
                     .dump()
              << std::endl;
  }

 private:
  // Of one call; several in a row where one would be too short to be measured.
  static double seconds_of(const std::function<void()>& work) {
    const double start = processor_seconds();
    double end = start;
    int calls = 0;
    while (end - start < 0.01) {
      work();
      ++calls;
      end = processor_seconds();
    }
    return (end - start) / calls;
  }

  std::string model_;
  int64_t batch_;
  int rounds_;
};

void inference(const Bench& bench, const Network& network, const at::Tensor& x) {
  const InferenceForm form(network, x.size(0));
  bench.compare(
      "inference", [&] { network.output(x); }, [&] { form.output(x); });
}

void run_steps(const std::vector<PlanStep>& steps, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> values = {x};
  for (size_t i = 1; i < steps.size(); ++i) {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : steps[i].node.inputs) inputs.push_back(values[static_cast<size_t>(input)]);
    values.push_back(steps[i].scale ? at::addcmul(steps[i].parameters[1], inputs[0], steps[i].parameters[0])
                                    : execute(steps[i].node, inputs, steps[i].parameters));
  }
}

void folding(const Bench& bench, const Network& network, const at::Tensor& x) {
  const auto plain = plain_steps(network, network.output_node());
  const auto folded = folded_steps(network, network.output_node());
  if (plain.size() == folded.size()) return;
  bench.compare(
      "batch norm folded", [&] { run_steps(plain, x); }, [&] { run_steps(folded, x); });
}

void gradient(const Bench& bench, const Network& network, const at::Tensor& x) {
  const InputGradient fast(network, InputGradient::Of::output);
  const auto seed = [](const at::Tensor& values) { return values.clone(); };
  bench.compare(
      "input gradient",
      [&] {
        const at::AutoGradMode record(true);
        const at::Tensor leaf = x.detach().clone().requires_grad_();
        const at::Tensor values = network.differentiable_output(leaf);
        grad({values}, {leaf}, {values.detach()});
      },
      [&] { fast(x, seed); });
}

// Convolution and pooling as one, on random inputs.
void conv_pools(const Bench& bench, const Network& network, int64_t batch) {
  const at::NoGradGuard no_grad;
  const auto plain = folded_steps(network, network.output_node());
  const auto find = [&](const std::string& name) {
    return *std::ranges::find_if(plain, [&](const PlanStep& step) { return step.node.name == name; });
  };
  for (const GradientStep& step : plan_gradient(network, network.output_node())) {
    if (!step.conv_pool) continue;
    const PlanStep conv = find(step.node.name);
    const auto& a = std::get<ConvAttributes>(conv.node.attributes);
    std::vector<int64_t> shape = plain[static_cast<size_t>(conv.node.inputs[0])].node.shape;
    shape.insert(shape.begin(), batch);
    const at::Tensor x = at::randn(shape).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor weight = conv.parameters[0].contiguous(at::MemoryFormat::ChannelsLast);
    const auto convolved = [&] {
      return at::convolution(x, weight, conv.parameters[1], a.stride, a.padding, a.dilation, false, {0, 0},
                             1);
    };
    const auto backward = [&](const at::Tensor& g, bool of_weight) {
      return at::convolution_backward(g, x, weight, at::OptionalIntArrayRef(), a.stride, a.padding,
                                      a.dilation, false, {0, 0}, 1, {!of_weight, of_weight, false});
    };
    const auto pool = std::ranges::find_if(plain, [&](const PlanStep& one) {
      return one.node.kind == NodeKind::max_pool && one.node.shape == step.node.shape;
    });
    const auto& p = std::get<PoolAttributes>(pool->node.attributes);
    const at::Tensor plane = x.contiguous();
    const auto kept = step.conv_pool->forward(plane);
    const at::Tensor g = at::randn_like(kept.value);
    const auto pooled = [&](const at::Tensor& y) {
      return at::max_pool2d_with_indices(y, p.kernel, p.stride, p.padding, p.dilation, p.ceil_mode);
    };
    const auto unpooled = [&](const at::Tensor& y, const at::Tensor& indices) {
      return at::max_pool2d_with_indices_backward(g, y, p.kernel, p.stride, p.padding, p.dilation,
                                                  p.ceil_mode, indices);
    };
    bench.compare(
        "convolution and pooling " + conv.node.name + ", there and back",
        [&] {
          const at::Tensor y = convolved();
          backward(unpooled(y, std::get<1>(pooled(y))), false);
        },
        [&] { step.conv_pool->backward(g, step.conv_pool->forward(plane).positions); });
    const at::Tensor y = convolved(), indices = std::get<1>(pooled(y));
    bench.compare(
        "convolution and pooling " + conv.node.name + ", gradient of weights",
        [&] { backward(unpooled(y, indices), true); },
        [&] { step.conv_pool->weight_gradient(plane, g, kept.positions); });
  }
}

// Gradients of two losses, one of each half of the images.
void weight_gradients(const Bench& bench, const Network& network, const at::Tensor& x) {
  const train::FlatWeights weights(network, train::trainable_parameters(network));
  train::WeightGradients fast(network, weights, 2);
  const int64_t half = x.size(0) / 2;
  const at::Tensor first = at::arange(half), second = at::arange(half, x.size(0));
  Network copy = network.fork();
  copy.require_grad(true);
  std::vector<at::Tensor> leaves;
  for (const ParameterId id : weights.parameters())
    leaves.push_back(copy.parameters()[static_cast<size_t>(id)].value);
  bench.compare(
      "gradients of weights, two groups",
      [&] {
        const at::AutoGradMode record(true);
        for (const at::Tensor& part : {x.narrow(0, 0, half), x.narrow(0, half, x.size(0) - half)}) {
          const at::Tensor logits = copy.differentiable_logits(part);
          grad({logits}, leaves, {logits.detach()});
        }
      },
      [&] {
        fast.backward(fast.forward(x), {{first, 0}, {second, 1}});
      });
}

// Six weights of one layer: all behind it runs, or no more than what they change.
void partial_pass(const Bench& bench, const Network& network, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  const std::vector<TargetLayer> layers = target_layers(network);
  std::vector<size_t> places = {0, layers.size() / 2, layers.size() - 2, layers.size() - 1};
  places.erase(std::unique(places.begin(), places.end()), places.end());
  RandomStream stream(7);
  for (const size_t place : places) {
    const TargetLayer& layer = layers[place];
    const std::vector<WeightRef> weights = random_weights(network, {layer}, 6, stream);
    std::vector<double> values;
    for (const float value : read_weights(network, weights)) values.push_back(value + 0.1);
    const auto kernels = overrides(network, edits_of(weights, values));
    const search::PartialPass narrow(network, weights, true), whole(network, weights, false);
    const auto of_narrow = narrow.prepare(network.activations(x, narrow.reads())),
               of_whole = whole.prepare(network.activations(x, whole.reads()));
    bench.compare(
        "partial pass from " + network.nodes()[static_cast<size_t>(layer.node)].name,
        [&] { whole.logits(of_whole, kernels); }, [&] { narrow.logits(of_narrow, kernels); });
  }
}

// A loop as conv_pool.cpp has it, with and without wide vectors.
HARNESS_WIDE void add_wide(float* __restrict__ to, const float* __restrict__ from, int64_t count,
                           float factor) {
  for (int64_t k = 0; k < count; ++k) to[k] += factor * from[k];
}
void add_narrow(float* __restrict__ to, const float* __restrict__ from, int64_t count, float factor) {
  for (int64_t k = 0; k < count; ++k) to[k] += factor * from[k];
}

void loops(const Bench& bench, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  std::vector<float> to(4096, 0), from(4096, 1);
  const auto many = [&](auto add) {
    for (int call = 0; call < 100; ++call) add(to.data(), from.data(), 4096, 0.5F);
  };
  bench.compare(
      "wide vectors, a sum", [&] { many(add_narrow); }, [&] { many(add_wide); });
  const PgdBox box{.epsilon = 0.15, .step = 0.005};
  const at::Tensor slope = at::randn_like(x);
  at::Tensor plain = x.clone(), fast = x.clone();
  bench.compare(
      "a step of PGD",
      [&] {
        plain.add_(slope.sign(), box.step);
        plain.sub_(x).clamp_(-box.epsilon, box.epsilon).add_(x).clamp_(box.low, box.high);
      },
      [&] { ascend(fast, x, slope, box); });
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_fast", "what the fast paths gain; a JSON line each on standard output");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("data", "HDF5 file", cxxopts::value<std::string>());
  add("batch", "images; 0: follows from the model", cxxopts::value<int64_t>()->default_value("0"));
  add("rounds", "", cxxopts::value<int>()->default_value("9"));
  add("threads", "", cxxopts::value<int>()->default_value("1"));
  const auto given = options.parse(argc, argv);
  set_up("cpu", given["threads"].as<int>());

  const Dataset data = Dataset::open(given["data"].as<std::string>());
  const Split& test = data.split("test");
  const auto file = given["model"].as<std::string>();
  const Network network = Network::load(file, test.inputs(0, 4));
  const int64_t wanted = given["batch"].as<int64_t>();
  const int64_t batch = std::min(wanted > 0 ? wanted : preferred_batch(network), test.size());
  const at::Tensor x = test.inputs(0, batch);
  const Bench bench(std::filesystem::path(file).stem().string(), batch, given["rounds"].as<int>());
  inference(bench, network, x);
  folding(bench, network, x);
  gradient(bench, network, x);
  conv_pools(bench, network, batch);
  weight_gradients(bench, network, x);
  partial_pass(bench, network, x);
  loops(bench, x);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark(run, argc, argv);
}

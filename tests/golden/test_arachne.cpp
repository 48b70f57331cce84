// Arachne's engines fed with the random numbers of the public reference code find what the study's published
// fixed LeNet5 models have changed, bit for bit (approaches/docs/AR.md, Differences). Of the reference's
// errors the second test repeats the two that decide which weights are searched.
#include <bit>
#include <cmath>
#include <memory>
#include <random>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/impact.hpp"
#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/search/differential_evolution.hpp"
#include "approaches/search/pareto.hpp"
#include "tests/golden/reference_streams.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

using Indices = std::vector<int64_t>;
using Weights = std::vector<WeightRef>;

constexpr uint32_t kSeeds[] = {0, 1, 2};  // of the study's runs
const std::filesystem::path kFolder = "data/mnist";

struct Subject {
  Dataset data;
  Network network;
  std::vector<Network> published;  // one a run
  const Split& repair;             // in the study's order
  std::vector<TargetLayer> layers;
  locate::Judgement judgement;
};

const Subject& subject() {
  static const std::unique_ptr<Subject> kept = [] {
    for (const char* name : {"mnist.h5", "lenet5.pt", "arachne1.pt", "arachne2.pt", "arachne3.pt"}) {
      if (!std::filesystem::exists(kFolder / name))
        skip_process((kFolder / name).string() + " is not there; scripts/test-data makes it");
    }
    Dataset data = Dataset::open(kFolder / "mnist.h5");
    const Split& repair = data.split("repair");
    const auto load = [&](const std::string& name) {
      return Network::load(kFolder / name, repair.inputs(0, 4));
    };
    Network network = load("lenet5.pt");
    std::vector<Network> published;
    for (const char* name : {"arachne1.pt", "arachne2.pt", "arachne3.pt"}) published.push_back(load(name));
    std::vector<TargetLayer> layers = target_layers(network);
    locate::Judgement judgement = locate::judge_split(network, repair, 250);
    return std::unique_ptr<Subject>(new Subject{std::move(data), std::move(network), std::move(published),
                                                repair, std::move(layers), std::move(judgement)});
  }();
  return *kept;
}

// Every value whose bits differ.
Weights changed_weights(const Network& a, const Network& b) {
  Weights changed;
  for (size_t id = 0; id < a.parameters().size(); ++id) {
    const auto bits = [id](const Network& network) {
      return network.parameters()[id].value.detach().contiguous().view(at::kInt).flatten();
    };
    const at::Tensor places = bits(a).ne(bits(b)).nonzero();
    for (int64_t k = 0; k < places.size(0); ++k)
      changed.push_back({static_cast<ParameterId>(id), places[k][0].item<int64_t>()});
  }
  return changed;
}

// "name[index]" of each, sorted.
std::vector<std::string> texts(const Weights& weights) {
  std::vector<std::string> texts;
  for (const WeightRef& weight : weights)
    texts.push_back(subject().network.parameters()[weight.parameter].name + "[" +
                    std::to_string(weight.index) + "]");
  std::sort(texts.begin(), texts.end());
  return texts;
}

// What the reference draws before it localises. Its correct images for that are positions in the list of the
// correct ones, which it then takes for numbers of images of the split: `meant` and `used`.
struct Drawn {
  Indices negatives, meant, used;
};

Drawn draw_sets(const locate::Judgement& judgement, uint32_t seed) {
  Drawn drawn;
  drawn.negatives =
      NumpyRandom(seed).choice(judgement.wrong, static_cast<int64_t>(judgement.wrong.size()) / 10);
  NumpyRandom numpy(seed);  // it seeds again
  std::map<int64_t, Indices> of_class;
  const auto label = judgement.labels.accessor<int64_t, 1>();
  for (size_t k = 0; k < judgement.correct.size(); ++k)
    of_class[label[judgement.correct[k]]].push_back(static_cast<int64_t>(k));
  for (const auto& [name, members] : of_class) {
    const double share = static_cast<double>(drawn.negatives.size() * members.size()) /
                         static_cast<double>(judgement.correct.size());
    for (const int64_t k : numpy.choice(members, std::max<int64_t>(1, std::lround(share)))) {
      drawn.meant.push_back(judgement.correct[k]);
      drawn.used.push_back(k);
    }
  }
  return drawn;
}

// Whether some output of a convolution sees only zeros in all samples: the reference then divides 0 by 0, and
// the forward impact of all weights of the layer is NaN.
bool sees_only_zeros(const TargetLayer& layer, const Indices& samples) {
  const at::Tensor x = subject().repair.inputs(at::tensor(samples, at::kLong));
  const at::Tensor input = subject().network.activations(x, {layer.input})[0].abs().sum({0, 1});
  const auto& conv = std::get<ConvAttributes>(subject().network.nodes()[layer.node].attributes);
  const at::Tensor kernel = subject().network.parameters()[layer.weight].value;
  const at::Tensor seen =
      at::conv2d(input.unsqueeze(0).unsqueeze(0), at::ones({1, 1, kernel.size(2), kernel.size(3)}), {},
                 conv.stride, conv.padding, conv.dilation);
  return seen.eq(0).any().item<bool>();
}

// Keras' layout of a kernel, flat: (units, classes), or (row, column, in, out).
at::Tensor keras_order(const at::Tensor& kernel) {
  return (kernel.dim() == 2 ? kernel.t() : kernel.permute({2, 3, 1, 0})).flatten().contiguous();
}

// The Pareto front of our scores, in the reference's order: layers, then Keras' order.
Weights front_of(const Indices& negatives, const Indices& positives, bool with_nan) {
  const auto scores = [](const Indices& samples) {
    return locate::weight_scores(subject().network, subject().layers, subject().repair, samples,
                                 {.compat_softmax = true});
  };
  const auto of_negatives = scores(negatives), of_positives = scores(positives);
  Weights weights;
  std::vector<double> gradient, impact;
  double max_or_nan = -1;
  for (size_t l = 0; l < subject().layers.size(); ++l) {
    const TargetLayer& layer = subject().layers[l];
    const auto& of_wrong = of_negatives[l];
    const auto& of_right = of_positives[l];
    const at::Tensor gradients = keras_order(of_wrong.gradient_loss / (1 + of_right.gradient_loss)),
                     impacts = keras_order(of_wrong.forward_impact / (1 + of_right.forward_impact)),
                     places = keras_order(at::arange(gradients.numel()).view(of_wrong.gradient_loss.sizes()));
    for (int64_t k = 0; k < gradients.numel(); ++k) {
      weights.push_back({layer.weight, places.data_ptr<int64_t>()[k]});
      gradient.push_back(gradients.data_ptr<double>()[k]);
      impact.push_back(impacts.data_ptr<double>()[k]);
    }
    if (layer.convolution && (sees_only_zeros(layer, negatives) || sees_only_zeros(layer, positives)))
      max_or_nan = std::max(max_or_nan, gradients.max().item<double>());
  }
  Weights front;
  for (const int64_t k : search::pareto_front(gradient, impact)) {
    // The reference lets each point in turn remove all that exceed it in neither score. Nothing exceeds NaN,
    // so a weight without an impact removes whatever has no greater gradient loss.
    if (!with_nan || gradient[k] > max_or_nan) front.push_back(weights[k]);
  }
  return front;
}

// The search's draws, in the order in which the reference makes them.
search::EvolutionDraws reference_draws(uint32_t seed, int64_t population) {
  const auto numpy = std::make_shared<NumpyRandom>(seed);
  const auto python = std::make_shared<PythonRandom>(seed);
  search::EvolutionDraws draws;
  draws.initial = [numpy](int64_t, std::span<double> normals) {
    for (double& value : normals) value = numpy->normal();
  };
  draws.factor = [python](int64_t) { return python->random(); };
  draws.trial = [numpy, python, population](int64_t, int64_t individual, search::Trial& trial) {
    Indices others;
    for (int64_t k = 0; k < population; ++k) {
      if (k != individual) others.push_back(k);
    }
    const Indices three = numpy->choice(others, 3);
    trial.a = three[0];
    trial.b = three[1];
    trial.c = three[2];
    trial.forced = python->randrange(static_cast<int64_t>(trial.cross.size()));
    for (size_t k = 0; k < trial.cross.size(); ++k) {
      if (static_cast<int64_t>(k) != trial.forced) trial.cross[k] = python->random();
    }
  };
  return draws;
}

struct Found {
  search::EvolutionResult evolution;
  Network fixed;
  double closest = std::numeric_limits<double>::infinity();  // least difference that a comparison decided on
};

// The reference rebuilds the last layer without its softmax, so that its loss here is that of the logits.
Found reference_search(const Indices& negatives, const Weights& weights, uint32_t seed, bool float32) {
  const Network& network = subject().network;
  const at::Tensor kernel = network.parameters()[weights.front().parameter].value;
  const NumpyMoments moments = numpy_moments(kernel.t());
  search::EvolutionSettings settings{.float32 = float32};
  settings.dimensions.assign(weights.size(), {.low = 2 * kernel.min().item<float>(),
                                              .high = 2 * kernel.max().item<float>(),
                                              .mean = moments.mean,
                                              .deviation = moments.deviation});
  const search::CandidateEvaluator evaluator(
      {.network = network,
       .inputs = {{&subject().repair, subject().judgement.correct, false},
                  {&subject().repair, negatives, true}},
       .weights = weights,
       .objective = search::arachne_objective(10, /*compat_softmax=*/false)});
  Found found{.evolution = {}, .fixed = network.fork()};
  found.evolution = search::evolve(settings, reference_draws(seed + 1, settings.population),
                                   [&](auto candidates, auto floors, auto fitness) {
                                     evaluator.evaluate(candidates, floors, fitness);
                                     const double difference = std::abs(fitness[0] - floors[0]);
                                     if (difference > 0) found.closest = std::min(found.closest, difference);
                                   });
  apply_edits(found.fixed, edits_of(weights, found.evolution.best));
  return found;
}

}  // namespace

// The numbers are what NumPy 2.4 (RandomState, which is frozen) and CPython 3.11 give.
TEST_CASE("the reference's random numbers are NumPy's and Python's") {
  MersenneTwister ours(5);
  std::mt19937 standard(5);
  for (int k = 0; k < 2000; ++k) REQUIRE(ours.next() == standard());

  NumpyRandom numpy(5);
  CHECK(numpy.permutation(10) == Indices{9, 5, 2, 4, 7, 1, 0, 8, 6, 3});
  CHECK(numpy.choice({3, 1, 4, 15, 9, 26, 5, 35}, 3) == Indices{26, 4, 1});
  for (const double expected : {1.070163327631122, 0.5006542632577021, 0.7896762588525721})
    CHECK(numpy.normal() == Approx(expected).epsilon(1e-15));
  Indices all(99);
  for (int64_t k = 0; k < 99; ++k) all[k] = k;
  CHECK(numpy.choice(all, 3) == Indices{35, 46, 64});
  CHECK(numpy.normal() == Approx(-0.7690272094176688).epsilon(1e-15));

  const auto ranges = [](PythonRandom& python) {
    Indices drawn;
    for (const int64_t bound : {1, 2, 3, 5, 100, 1000}) drawn.push_back(python.randrange(bound));
    return drawn;
  };
  PythonRandom zero(0), seven(7);
  CHECK(zero.random() == 0.8444218515250481);
  CHECK(ranges(zero) == Indices{0, 0, 1, 4, 62, 414});
  CHECK(zero.random() == 0.9182343317851318);
  CHECK(seven.random() == 0.32383276483316237);
  CHECK(ranges(seven) == Indices{0, 1, 2, 0, 9, 840});
  CHECK(seven.random() == 0.5358820043066892);

  const at::Tensor ramp = at::arange(840, at::kFloat).mul(0.37f).fmod(1.0f).sub(0.5f);
  CHECK(std::bit_cast<uint32_t>(numpy_moments(ramp).mean) == 3148583946u);
  CHECK(std::bit_cast<uint32_t>(numpy_moments(ramp).deviation) == 1049878075u);
}

TEST_CASE("Arachne localises the weights that the published models have changed") {
  for (const uint32_t seed : kSeeds) {
    INFO("run " << seed + 1);
    const Drawn drawn = draw_sets(subject().judgement, seed);
    REQUIRE(drawn.negatives.size() == 13);
    const auto changed = texts(changed_weights(subject().network, subject().published[seed]));
    CHECK(changed.size() == std::array<size_t, 3>{3, 4, 2}[seed]);
    CHECK(texts(front_of(drawn.negatives, drawn.used, true)) == changed);
    // Each of the two errors tells: without the first, the fronts of runs 1 and 2 are others; without the
    // second, those of runs 2 and 3.
    CHECK((texts(front_of(drawn.negatives, drawn.meant, true)) == changed) == (seed == 2));
    CHECK((texts(front_of(drawn.negatives, drawn.used, false)) == changed) == (seed == 0));
  }
}

// Run 2 changes a weight of a convolution, whose ReLU the reference loses; we do not.
TEST_CASE("Arachne finds the values of the published models bit for bit") {
  const std::map<uint32_t, int64_t> generations = {{0, 22}, {2, 54}};
  for (const auto& [seed, expected] : generations) {
    INFO("run " << seed + 1);
    const Drawn drawn = draw_sets(subject().judgement, seed);
    const Weights front = front_of(drawn.negatives, drawn.used, true);
    const Found found = reference_search(drawn.negatives, front, seed, /*float32=*/true);
    CHECK(found.evolution.generations == expected);
    CHECK(texts(changed_weights(found.fixed, subject().published[seed])).empty());
    // The reference sums in float32, with errors of some 1e-6: no comparison was that close.
    CHECK(found.closest > 1e-5);

    // It keeps its individuals in float32. In float64 the search is the same one, up to that rounding.
    const Found precise = reference_search(drawn.negatives, front, seed, /*float32=*/false);
    CHECK(precise.evolution.generations == expected);
    CHECK_FALSE(changed_weights(precise.fixed, subject().published[seed]).empty());
    for (size_t k = 0; k < front.size(); ++k)
      CHECK(precise.evolution.best[k] == Approx(found.evolution.best[k]).margin(2e-6));
    std::printf("Arachne run %u: %zu weights, %lld generations, closest comparison %.1e\n", seed + 1,
                front.size(), static_cast<long long>(expected), found.closest);
  }
}

#include <cmath>

#include "approaches/regions/region_solution.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "harness/model/graph.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::headed_network;
using testing::headless_network;
using testing::TemporaryFolder;
using testing::tiny_data;
using testing::tiny_network;

regions::DenseHead head_of(const Network& network) {
  return std::get<regions::DenseHead>(regions::dense_head(network));
}

at::Tensor images(int64_t begin, int64_t end) {
  return tiny_data().split("repair").inputs(begin, end);
}

at::Tensor features_of(const Network& network, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  return network.activations(x, {head_of(network).cut})[0].to(at::kDouble);
}

// The head as a plain chain of layers, and the z of all hidden units (N, R).
std::pair<at::Tensor, at::Tensor> run_head(const regions::DenseHead& head, at::Tensor x) {
  std::vector<at::Tensor> all;
  for (const regions::DenseLayer& layer : head.hidden) {
    all.push_back(at::linear(x, layer.weight, layer.bias));
    x = at::leaky_relu(all.back(), layer.slope);
  }
  return {at::linear(x, head.output.weight, head.output.bias), at::cat(all, 1)};
}

// Two features, hidden layers of five and four units, three classes.
regions::DenseHead plane_head() {
  at::manual_seed(4);
  const auto layer = [](int64_t out, int64_t in, double slope) {
    return regions::DenseLayer{2 * at::randn({out, in}, at::kDouble), at::randn({out}, at::kDouble), -1,
                               slope};
  };
  return {-1, {layer(5, 2, 0), layer(4, 5, 0.1)}, layer(3, 4, 1)};
}

at::Tensor filled(int64_t size, double value) {
  return at::full({size}, value, at::kDouble);
}

TEST_CASE("the dense head of a network", "[regions]") {
  const regions::DenseHead tiny = head_of(tiny_network());
  REQUIRE(tiny_network().nodes()[tiny.cut].kind == NodeKind::reshape);
  REQUIRE(tiny.hidden.size() == 1);
  REQUIRE((tiny.features() == 16 && tiny.hidden[0].units() == 10 && tiny.output.units() == 4));
  const regions::DenseHead headed = head_of(headed_network());
  REQUIRE(headed.hidden.size() == 2);  // the two layers without an activation between them are one
  REQUIRE((headed.hidden[0].units() == 12 && headed.hidden[1].units() == 9));
  REQUIRE((headed.hidden[0].slope == 0 && headed.hidden[1].slope == 0.2));
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const at::Tensor x = images(0, 20);
    const regions::DenseHead head = head_of(*network);
    const auto [logits, z] = run_head(head, features_of(*network, x));
    REQUIRE(at::allclose(logits, network->logits(x).to(at::kDouble), 1e-5, 1e-5));
    const at::NoGradGuard no_grad;
    at::Tensor expected = network->activations(x, {head.hidden[0].value})[0].to(at::kDouble);
    REQUIRE(at::allclose(z.slice(1, 0, head.hidden[0].units()), expected, 1e-5, 1e-5));
  }
}

TEST_CASE("networks without a dense head name what is in the way", "[regions]") {
  const auto refusal = [](const Network& network) {
    const auto found = regions::dense_head(network);
    return std::holds_alternative<Refusal>(found) ? std::get<Refusal>(found) : Refusal{};
  };
  REQUIRE(refusal(branched_network()).code == "operator");
  REQUIRE(refusal(branched_network()).text.find("(tanh)") != std::string::npos);
  REQUIRE(refusal(headless_network("sigmoid")).code == "operator");
  REQUIRE(refusal(headless_network("sigmoid")).text.find("(sigmoid)") != std::string::npos);
  for (const std::string name : {"pooled", "convolved", "skipping"}) {
    INFO(name);
    const Network& network = headless_network(name);
    REQUIRE(refusal(network).code == "structure");
    REQUIRE(refusal(network).text.find(network.nodes()[network.logits_node()].name) == 0);
  }
}

TEST_CASE("a linear region holds exactly the inputs with its signs, and its logits", "[regions]") {
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const regions::DenseHead head = head_of(*network);
    const at::Tensor features = features_of(*network, images(0, 8));
    const regions::LinearRegions regions = regions::linear_regions(head, features);
    const at::Tensor z = run_head(head, features).second;
    at::manual_seed(1);
    int64_t inside = 0, outside = 0;
    for (int64_t t = 0; t < 8; ++t) {
      for (const double distance : {0.0, 0.01, 0.1, 0.3, 1.0}) {
        const at::Tensor x = features[t] + distance * at::randn({40, head.features()}, at::kDouble);
        const auto [logits, values] = run_head(head, x);
        const at::Tensor left = regions.bounds[t] - at::matmul(x, regions.rows[t].t());
        const at::Tensor same_signs = values.ge(0).eq(z[t].ge(0)).all(1);
        REQUIRE(left.ge(-1e-12).all(1).equal(same_signs));
        // Rows of the first layer, and all rows inside, are the distances of z to 0.
        const int64_t first = head.hidden[0].units();
        REQUIRE(at::allclose(left.slice(1, 0, first).abs(), values.slice(1, 0, first).abs()));
        const at::Tensor here = same_signs.nonzero().flatten();
        const at::Tensor linear = at::matmul(x, regions.jacobian[t].t()) + regions.offset[t];
        REQUIRE(at::allclose(linear.index_select(0, here), logits.index_select(0, here)));
        REQUIRE(at::allclose(left.index_select(0, here), values.index_select(0, here).abs()));
        inside += here.numel();
        outside += 40 - here.numel();
      }
    }
    REQUIRE((inside > 400 && outside > 300));
    // All at once is the same as one by one.
    const regions::LinearRegions one = regions::linear_regions(head, features.slice(0, 3, 4));
    REQUIRE(at::allclose(one.rows[0], regions.rows[3]));
    REQUIRE(at::allclose(one.jacobian[0], regions.jacobian[3]));
  }
}

// Corners of a polygon given by rows x <= bounds, from all pairs of its lines.
at::Tensor corners(const at::Tensor& rows, const at::Tensor& bounds) {
  std::vector<at::Tensor> found;
  for (int64_t a = 0; a < rows.size(0); ++a) {
    for (int64_t b = 0; b < a; ++b) {
      const double p = rows[a][0].item<double>(), q = rows[a][1].item<double>();
      const double r = rows[b][0].item<double>(), s = rows[b][1].item<double>();
      const double u = bounds[a].item<double>(), v = bounds[b].item<double>();
      const double determinant = p * s - q * r;
      if (std::abs(determinant) < 1e-12) continue;
      const at::Tensor x =
          at::tensor({(u * s - q * v) / determinant, (p * v - u * r) / determinant}, at::kDouble);
      if (at::matmul(rows, x).le(bounds + 1e-9).all().item<bool>()) found.push_back(x);
    }
  }
  return at::stack(found);
}

// Corners of a region within the box [0, 3] x [0, 3].
at::Tensor corners_of(const regions::LinearRegions& regions, int64_t t) {
  const at::Tensor eye = at::eye(2, at::kDouble);
  return corners(at::cat({regions.rows[t], eye, -eye}),
                 at::cat({regions.bounds[t], filled(2, 3), filled(2, 0)}));
}

TEST_CASE("extremes over a region are those of its corners", "[regions]") {
  const regions::DenseHead head = plane_head();
  const at::Tensor points = 3 * at::rand({25, 2}, at::kDouble);
  const regions::LinearRegions regions = regions::linear_regions(head, points);
  const at::Tensor low = filled(2, 0), high = filled(2, 3);
  int64_t tighter = 0;
  for (int64_t t = 0; t < 25; ++t) {
    const at::Tensor vertices = corners_of(regions, t);
    regions::RegionRange range(regions.rows[t], regions.bounds[t], low, high, {});
    REQUIRE(range.rows() <= 9);
    for (int64_t k = 0; k < 3; ++k) {
      const at::Tensor direction = regions.jacobian[t][k].contiguous();
      const at::Tensor values = at::matmul(vertices, direction);
      const regions::Extreme maximum = range.max_value(direction), min_value = range.min_value(direction);
      REQUIRE((maximum.found() && min_value.found()));
      REQUIRE(maximum.value == Approx(values.max().item<double>()).epsilon(1e-6).margin(1e-7));
      REQUIRE(min_value.value == Approx(values.min().item<double>()).epsilon(1e-6).margin(1e-7));
      const double box = regions::max_in_box(direction.unsqueeze(0), low, high)[0].item<double>();
      REQUIRE(box >= maximum.value - 1e-6);
      tighter += box > maximum.value + 1e-3;
    }
    REQUIRE(range.programs() == 6);
  }
  REQUIRE(tighter > 20);
}

TEST_CASE("a program that is told to stop says so", "[regions]") {
  at::manual_seed(2);
  const at::Tensor rows = at::randn({150, 120}, at::kDouble), bounds = at::rand({150}, at::kDouble);
  regions::RegionRange range(rows, bounds, filled(120, -9), filled(120, 9), [] { return true; });
  REQUIRE(range.max_value(at::randn({120}, at::kDouble)).outcome == lp::Outcome::stopped);
}

// The patch of a region (approaches/docs/RA.md, Formulas) with matrices: P with its row of ones, inverted.
at::Tensor patched_by_matrices(const regions::LinearRegions& regions, int64_t t, int64_t label,
                               const regions::RegionSolution& answer, const at::Tensor& x) {
  at::Tensor p = at::zeros({3, 3}, at::kDouble);
  std::vector<double> alpha = answer.alpha, beta = answer.beta;
  int64_t row = 0;
  for (int64_t j = 0; j < 3; ++j) {
    if (j == label) continue;
    p[row][j] = 1;
    p[row++][label] = -1;
  }
  p[2].fill_(1);
  alpha.push_back(1);
  beta.push_back(0);
  const at::Tensor inverse = at::linalg_inv(p);
  const at::Tensor f = at::matmul(x, regions.jacobian[t].t()) + regions.offset[t];
  const at::Tensor mapped = at::matmul(inverse, at::matmul(at::diag(at::tensor(alpha, at::kDouble)), p));
  return at::matmul(f, mapped.t()) + at::matmul(inverse, at::tensor(beta, at::kDouble));
}

TEST_CASE("patches bring every difference of a whole region within its limits", "[regions]") {
  const regions::DenseHead head = plane_head();
  const at::Tensor points = 3 * at::rand({25, 2}, at::kDouble);
  const regions::LinearRegions regions = regions::linear_regions(head, points);
  for (const double min_value : {-1e5, -2.0}) {
    for (const bool exact : {true, false}) {
      INFO("least " << min_value << " exact " << exact);
      const regions::RegionTarget target{filled(2, 0), filled(2, 3), min_value, -1e-3, exact};
      std::vector<int64_t> labels;
      std::vector<regions::RegionSolution> answers;
      int64_t lower = 0;
      for (int64_t t = 0; t < 25; ++t) {
        labels.push_back(t % 3);
        answers.push_back(regions::solve_region(regions, t, t % 3, target, {}));
        REQUIRE(answers.back().outcome == lp::Outcome::optimal);
        REQUIRE(answers.back().programs == (exact ? 2 + answers.back().lower_programs : 0));
        lower += answers.back().lower_programs;
      }
      REQUIRE((lower > 0) == (exact && min_value == -2));
      const regions::AffinePatches patches = regions::affine_patches(head, points, labels, answers);
      REQUIRE(patches.factor.defined() == (min_value == -2));
      bool moved = false;
      for (int64_t t = 0; t < 25; ++t) {
        const at::Tensor x = corners_of(regions, t);
        const at::Tensor f = at::matmul(x, regions.jacobian[t].t()) + regions.offset[t];
        at::Tensor patched = f + patches.constant[t];
        if (patches.factor.defined()) patched = patched + at::matmul(x, patches.factor[t].t());
        REQUIRE(at::allclose(patched, patched_by_matrices(regions, t, labels[t], answers[t], x)));
        const at::Tensor difference = patched - patched.slice(1, labels[t], labels[t] + 1);
        for (int64_t j = 0; j < 3; ++j) {
          if (j == labels[t]) continue;
          REQUIRE(difference.select(1, j).max().item<double>() <= -1e-3 + 1e-7);
          REQUIRE(difference.select(1, j).min().item<double>() >= min_value - 1e-7);
          // No more than needed: a difference that is moved touches a limit.
          const double beta = answers[t].beta[j - (j > labels[t])];
          moved = moved || beta != 0;
          if (exact && beta < 0) REQUIRE(difference.select(1, j).max().item<double>() > -1e-3 - 1e-5);
        }
      }
      REQUIRE(moved);
    }
  }
}

// Support and joint patch (approaches/docs/RA.md, Formulas), one input after the other.
at::Tensor joint_patch(const regions::LinearRegions& regions, const regions::PatchSetting& setting,
                       const at::Tensor& x) {
  const int64_t regions_count = setting.patches.constant.size(0), classes = setting.patches.constant.size(1);
  const auto patch = [&](int64_t t, const at::Tensor& at) {
    at::Tensor p = setting.patches.constant[t];
    if (setting.patches.factor.defined()) p = p + at::mv(setting.patches.factor[t], at);
    return p;
  };
  // Largest absolute values over the box, by its 2^D corners being separable: each output on its own.
  const auto largest = [&](int64_t t) {
    at::Tensor d =
        setting.patches.constant[t] - (t > 0 ? setting.patches.constant[t - 1] : filled(classes, 0));
    if (!setting.patches.factor.defined()) return d.abs().max().item<double>();
    const at::Tensor c = setting.patches.factor[t] -
                         (t > 0 ? setting.patches.factor[t - 1] : at::zeros_like(setting.patches.factor[t]));
    const at::Tensor maximum = at::where(c > 0, setting.high, setting.low);
    const at::Tensor min_value = at::where(c > 0, setting.low, setting.high);
    return at::maximum(((c * maximum).sum(1) + d).abs(), ((c * min_value).sum(1) + d).abs())
        .max()
        .item<double>();
  };
  std::vector<at::Tensor> all;
  for (int64_t n = 0; n < x.size(0); ++n) {
    std::vector<double> g;
    for (int64_t t = 0; t < regions_count; ++t) {
      const at::Tensor y = regions.bounds[t] - at::mv(regions.rows[t], x[n]);
      const at::Tensor scaled = setting.sharpness * y;
      const double sum = (at::relu(scaled + 1) - at::relu(scaled)).sum().item<double>();
      g.push_back(std::max(0.0, sum - static_cast<double>(y.numel()) + 1));
    }
    at::Tensor total = filled(classes, 0);
    for (int64_t i = 0; i < regions_count; ++i) {
      const double latest = *std::max_element(g.begin() + i, g.end());
      const at::Tensor q = i > 0 ? patch(i, x[n]) - patch(i - 1, x[n]) : patch(i, x[n]);
      const double k = largest(i) * (latest - 1);
      total = total + at::relu(q + k) - at::relu(-q + k);
    }
    all.push_back(total);
  }
  return at::stack(all);
}

regions::PatchSetting some_setting(const regions::DenseHead& head, const at::Tensor& features, bool affine,
                                   double sharpness) {
  at::manual_seed(7);
  const int64_t count = features.size(0);
  regions::PatchSetting setting;
  setting.patterns = regions::activation_patterns(head, features);
  setting.patches.constant = 3 * at::randn({count, 4}, at::kDouble);
  if (affine) setting.patches.factor = 0.3 * at::randn({count, 4, head.features()}, at::kDouble);
  setting.low = filled(head.features(), -2);
  setting.high = filled(head.features(), 5);
  setting.sharpness = sharpness;
  return setting;
}

TEST_CASE("the patched network adds what the formulas say", "[regions]") {
  const at::Tensor x = images(0, 40);
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const regions::DenseHead head = head_of(*network);
    const at::Tensor features = features_of(*network, x);
    for (const int64_t count : {1, 2, 3, 7, 12}) {
      for (const bool affine : {false, true}) {
        for (const double sharpness : {64.0, 1.0, 0.02}) {
          INFO(count << " regions, affine " << affine << ", n " << sharpness);
          const at::Tensor chosen = features.slice(0, 0, count);
          const regions::PatchSetting setting = some_setting(head, chosen, affine, sharpness);
          const Network patched = regions::with_patches(*network, head, setting);
          const at::Tensor expected = joint_patch(regions::linear_regions(head, chosen), setting, features);
          const at::Tensor before = network->logits(x), after = patched.logits(x);
          REQUIRE(at::allclose(after.to(at::kDouble), before.to(at::kDouble) + expected, 1e-4,
                               2e-4 * (1 + sharpness)));
          // Where the formulas say nothing, not a bit changes.
          const at::Tensor silent = expected.eq(0).all(1).nonzero().flatten();
          REQUIRE(after.index_select(0, silent).equal(before.index_select(0, silent)));
          if (sharpness == 64 && count <= 2) REQUIRE(silent.numel() > 0);
          if (sharpness == 0.02) REQUIRE(silent.numel() < 40 - count);
          // In its own region a patch is all there is, unless a later one reaches there.
          const at::Tensor last = expected[count - 1];
          at::Tensor own = setting.patches.constant[count - 1];
          if (affine) own = own + at::mv(setting.patches.factor[count - 1], features[count - 1]);
          REQUIRE(at::allclose(last, own));
        }
      }
    }
  }
}

int64_t largest_new_value(const Network& original, const Network& patched) {
  return graph::max_value_count(patched.nodes(), original.logits_node() + 1);
}

TEST_CASE("patches in parts add the same", "[regions]") {
  const at::Tensor x = images(0, 40);
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const regions::DenseHead head = head_of(*network);
    for (const bool affine : {false, true}) {
      for (const double sharpness : {64.0, 0.25}) {
        INFO("affine " << affine << ", n " << sharpness);
        regions::PatchSetting setting =
            some_setting(head, features_of(*network, x).slice(0, 0, 13), affine, sharpness);
        const Network whole = regions::with_patches(*network, head, setting);
        const at::Tensor before = network->logits(x), expected = whole.logits(x);
        REQUIRE(largest_new_value(*network, whole) >= 13 * 4);
        for (const int64_t most : {40, 1}) {
          setting.most_values = most;
          const Network parts = regions::with_patches(*network, head, setting);
          REQUIRE(parts.nodes().size() > whole.nodes().size());
          REQUIRE(largest_new_value(*network, parts) <= 40);
          const at::Tensor after = parts.logits(x);
          REQUIRE(at::allclose(after, expected, 1e-5, 1e-4));
          REQUIRE(after.eq(before).equal(expected.eq(before)));  // silent where all at once are silent
          // Another n is given to all parts.
          regions::PatchSetting other = setting;
          other.sharpness = sharpness / 8;
          Network moved = parts.fork();
          regions::set_sharpness(moved, head, other);
          REQUIRE(moved.digest() == regions::with_patches(*network, head, other).digest());
          REQUIRE(moved.digest() != parts.digest());
        }
      }
    }
  }
}

TEST_CASE("values of very many patches stay within a bound", "[regions]") {
  const regions::DenseHead head = head_of(headed_network());
  const at::Tensor features = 4 * at::rand({11000, head.features()}, at::kDouble);
  regions::PatchSetting setting = some_setting(head, features, false, 1);
  const Network parts = regions::with_patches(headed_network(), head, setting);
  REQUIRE(largest_new_value(headed_network(), parts) <= int64_t{1} << 17);
  setting.most_values = int64_t{1} << 30;
  const Network whole = regions::with_patches(headed_network(), head, setting);
  REQUIRE(largest_new_value(headed_network(), whole) == 11000 * 12);
  REQUIRE(at::allclose(parts.logits(images(0, 3)), whole.logits(images(0, 3)), 1e-4, 1e-4));
}

TEST_CASE("a patched network is saved, loaded, run and differentiated by plain Python", "[regions]") {
  const TemporaryFolder folder;
  int64_t saved = 0;
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    for (const bool affine : {false, true}) {
      const regions::DenseHead head = head_of(*network);
      const at::Tensor x = images(0, 12);
      regions::PatchSetting setting =
          some_setting(head, features_of(*network, x).slice(0, 0, 6), affine, 0.25);
      if (affine) setting.most_values = 30;  // in parts
      const Network patched = regions::with_patches(*network, head, setting);
      for (const Parameter& parameter : network->parameters()) {
        const ParameterId id = patched.find_parameter(parameter.name);
        REQUIRE(id >= 0);
        REQUIRE(patched.parameters()[id].value.equal(parameter.value));
      }
      REQUIRE(patched.parameters().size() > network->parameters().size());
      const std::filesystem::path file = folder / (std::to_string(saved++) + ".pt");
      patched.save(file);
      const Network again = Network::load(file, x.slice(0, 0, 3));
      INFO(again.report().unknown_operator << " " << again.report().detail);
      REQUIRE(again.importable());
      REQUIRE(again.output(x).equal(patched.output(x)));
      // The gradient that attacks use is autograd's.
      const auto seed = [](const at::Tensor& values) {
        at::Tensor s = at::zeros_like(values);
        s.select(1, 2).fill_(1);
        return s;
      };
      const at::Tensor leaf = x.detach().clone().requires_grad_();
      at::Tensor sum = patched.differentiable_logits(leaf).select(1, 2).sum();
      sum.backward();
      const at::Tensor gradient = InputGradient(patched, InputGradient::Of::logits)(x, seed);
      REQUIRE(at::allclose(gradient, leaf.grad(), 1e-4, 1e-5));
      REQUIRE_FALSE(at::allclose(gradient, InputGradient(*network, InputGradient::Of::logits)(x, seed)));
    }
  }
  const std::string answer = testing::run_python(R"(
import torch
torch.manual_seed(0)
x = torch.randn(5, 2, 8, 8, dtype=torch.float64)
d = torch.randn_like(x)
for k in range(4):
    m = torch.jit.load(')" + (folder / "").string() +
                                                 R"(' + str(k) + '.pt').double()
    f = lambda x: m(x)[:, 1].sum()
    y = x.clone().requires_grad_()
    g, = torch.autograd.grad(f(y), y)
    with torch.no_grad():
        slope = (f(x + 1e-6 * d) - f(x - 1e-6 * d)) / 2e-6
    print(abs((g * d).sum() - slope).item() < 1e-4 * (1 + abs(slope.item())), any('reassure' in n for n in m.state_dict()))
)");
  REQUIRE(answer == "True True\nTrue True\nTrue True\nTrue True\n");
}

TEST_CASE("operations of a network", "[regions]") {
  // tiny: conv 3x8x8 of 2x3x3, relu, pool 3x4x4 of 2x2, conv 4x2x2 of 3x3x3, tanh, dense 16-10-4, softmax.
  const double expected = 192 * 18 + 192 + 48 * 4 + 16 * 27 + 16 + 160 + 10 + 40 + 4;
  REQUIRE(regions::operations(tiny_network()) == expected);
  const regions::DenseHead head = head_of(tiny_network());
  const regions::PatchSetting setting =
      some_setting(head, features_of(tiny_network(), images(0, 4)), false, 1);
  REQUIRE(regions::operations(regions::with_patches(tiny_network(), head, setting)) > expected + 2 * 10 * 4);
}

}  // namespace
}  // namespace harness

#include <cmath>
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/impact.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::tiny_data;
using testing::tiny_network;

std::vector<int64_t> some_samples() {
  return {3, 17, 18, 40, 59, 77, 101};
}

float& value_at(Network& network, ParameterId id, int64_t index) {
  return network.parameters()[id].value.data_ptr<float>()[index];
}

double loss_sum(const Network& network, const std::vector<int64_t>& samples, bool compat) {
  const at::Tensor indices = at::tensor(samples, at::kLong);
  const Split& split = tiny_data().split("repair");
  at::Tensor output = network.logits(split.inputs(indices)).to(at::kDouble);
  if (compat) output = output.softmax(1);
  return at::cross_entropy_loss(output, split.labels().index_select(0, indices), {}, at::Reduction::Sum)
      .item<double>();
}

TEST_CASE("target layers of the tiny network") {
  const Network& network = tiny_network();
  const std::vector<TargetLayer> layers = target_layers(network);
  REQUIRE(layers.size() == 4);
  REQUIRE(
      (layers[0].convolution && layers[1].convolution && !layers[2].convolution && !layers[3].convolution));
  REQUIRE(network.nodes()[layers[0].behind].kind == NodeKind::relu);
  REQUIRE(network.nodes()[layers[1].behind].kind == NodeKind::tanh);
  REQUIRE(layers[3].behind == layers[3].node);
  REQUIRE(layers[3].node == network.logits_node());
}

TEST_CASE("gradient loss equals finite differences") {
  for (const bool compat : {false, true}) {
    const std::vector<TargetLayer> layers = target_layers(tiny_network());
    const auto scores = locate::weight_scores(tiny_network(), layers, tiny_data().split("repair"),
                                              some_samples(), {.compat_softmax = compat, .batching = 3});
    for (size_t l = 0; l < layers.size(); ++l) {
      const at::Tensor found = scores[l].gradient_loss.contiguous();
      REQUIRE(found.sizes() == tiny_network().parameters()[layers[l].weight].value.sizes());
      for (int64_t index = 0; index < found.numel(); index += 7) {
        Network moved = tiny_network().fork();
        float& weight = value_at(moved, layers[l].weight, index);
        const float before = weight;
        weight = before + 2e-3f;
        const double step_up = weight, above = loss_sum(moved, some_samples(), compat);
        weight = before - 2e-3f;
        const double difference = (above - loss_sum(moved, some_samples(), compat)) / (step_up - weight);
        REQUIRE(found.data_ptr<double>()[index] == Approx(std::abs(difference)).epsilon(0.02).margin(0.02));
      }
    }
  }
}

// Gradient loss and forward impact (approaches/docs/AR.md, Formulas), one number at a time.
struct PlainImpact {
  const Network& network = tiny_network();
  std::vector<TargetLayer> layers = target_layers(network);
  at::Tensor x = tiny_data().split("repair").inputs(at::tensor(some_samples(), at::kLong));
  int64_t count = static_cast<int64_t>(some_samples().size());

  // Mean over the samples of |d(sum of logits)/da_j| over its sum, by finite differences of the rest.
  std::vector<double> behind(const TargetLayer& layer) const {
    const Cut cut = network.cut_before(layer.behind + 1);
    std::vector<at::Tensor> live = network.prefix(cut, x);
    const size_t at = std::find(cut.live.begin(), cut.live.end(), layer.behind) - cut.live.begin();
    const int64_t units = live[at].numel() / count;
    std::vector<double> mean(units, 0);
    std::vector<std::vector<double>> size(count, std::vector<double>(units));
    for (int64_t unit = 0; unit < units; ++unit) {
      const auto shifted = [&](float by) {
        std::vector<at::Tensor> moved = live;
        moved[at] = live[at].clone();
        moved[at].view({count, units}).select(1, unit).add_(by);
        return network.suffix(cut, moved).to(at::kDouble).sum(1);
      };
      const at::Tensor slope = (shifted(1e-3f) - shifted(-1e-3f)) / 2e-3;
      for (int64_t n = 0; n < count; ++n) size[n][unit] = std::abs(slope[n].item<double>());
    }
    for (int64_t n = 0; n < count; ++n) {
      double total = 0;
      for (const double value : size[n]) total += value;
      for (int64_t unit = 0; unit < units; ++unit)
        mean[unit] += size[n][unit] / total / static_cast<double>(count);
    }
    return mean;
  }

  double weight(const TargetLayer& layer, std::vector<int64_t> place) const {
    at::Tensor value = network.parameters()[layer.weight].value;
    for (const int64_t p : place) value = value[p];
    return value.item<double>();
  }

  double dense(const TargetLayer& layer, int64_t j, int64_t i, const std::vector<double>& behind) const {
    const at::Tensor o = network.activations(x, {layer.input})[0];
    double front = 0;
    for (int64_t n = 0; n < count; ++n) {
      double total = 0;
      for (int64_t other = 0; other < o.size(1); ++other) {
        total += std::abs(o[n][other].item<double>() * weight(layer, {j, other}));
      }
      if (total > 0) front += std::abs(o[n][i].item<double>() * weight(layer, {j, i})) / total;
    }
    return front / static_cast<double>(count) * behind[j];
  }

  // |x_patch w| of one sample, output position and weight.
  double product(const TargetLayer& layer, const at::Tensor& input, int64_t n, int64_t row, int64_t column,
                 const std::vector<int64_t>& w) const {
    const auto& a = std::get<ConvAttributes>(network.nodes()[layer.node].attributes);
    const int64_t r = row * a.stride[0] + w[2] - a.padding[0], c = column * a.stride[1] + w[3] - a.padding[1];
    if (r < 0 || c < 0 || r >= input.size(2) || c >= input.size(3)) return 0;
    return std::abs(
        input.data_ptr<float>()[((n * input.size(1) + w[1]) * input.size(2) + r) * input.size(3) + c] *
        weight(layer, w));
  }

  double convolution(const TargetLayer& layer, const std::vector<int64_t>& w,
                     const std::vector<double>& behind, bool per_sample) const {
    const at::Tensor input = network.activations(x, {layer.input})[0].contiguous();
    const auto kernel = network.parameters()[layer.weight].value.sizes();
    const std::vector<int64_t>& shape = network.nodes()[layer.node].shape;
    double impact = 0;
    for (int64_t row = 0; row < shape[1]; ++row) {
      for (int64_t column = 0; column < shape[2]; ++column) {
        std::vector<double> own(count, 0), total(count, 0);
        double whole = 0;
        for (int64_t n = 0; n < count; ++n) {
          own[n] = product(layer, input, n, row, column, w);
          for (int64_t c = 0; c < kernel[1]; ++c) {
            for (int64_t kh = 0; kh < kernel[2]; ++kh) {
              for (int64_t kw = 0; kw < kernel[3]; ++kw) {
                total[n] += product(layer, input, n, row, column, {w[0], c, kh, kw});
              }
            }
          }
          whole += total[n];
        }
        double front = 0;
        for (int64_t n = 0; n < count; ++n) {
          const double denominator = per_sample ? total[n] : whole;
          if (denominator > 0) front += own[n] / denominator / static_cast<double>(count);
        }
        impact += front * behind[(w[0] * shape[1] + row) * shape[2] + column];
      }
    }
    return impact;
  }
};

TEST_CASE("forward impact equals its formula taken literally") {
  const PlainImpact plain;
  for (const bool per_sample : {false, true}) {
    const auto scores = locate::weight_scores(plain.network, plain.layers, tiny_data().split("repair"),
                                              some_samples(), {.conv_per_sample = per_sample, .batching = 3});
    for (size_t l = 0; l < plain.layers.size(); ++l) {
      const TargetLayer& layer = plain.layers[l];
      const at::Tensor found = scores[l].forward_impact.contiguous();
      std::vector<double> behind;
      if (layer.behind == plain.network.logits_node()) {
        behind.assign(4, 0.25);
      } else {
        behind = plain.behind(layer);
      }
      const double scale = found.max().item<double>();
      REQUIRE(scale > 0);
      for (int64_t index = 0; index < found.numel(); index += layer.convolution ? 19 : 7) {
        std::vector<int64_t> place;
        int64_t rest = index;
        for (int64_t dim = found.dim() - 1; dim >= 0; --dim) {
          place.insert(place.begin(), rest % found.size(dim));
          rest /= found.size(dim);
        }
        const double expected = layer.convolution ? plain.convolution(layer, place, behind, per_sample)
                                                  : plain.dense(layer, place[0], place[1], behind);
        REQUIRE(found.data_ptr<double>()[index] == Approx(expected).epsilon(0.01).margin(0.002 * scale));
      }
    }
  }
}

TEST_CASE("scores do not depend on the size of the slabs") {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  const Split& split = tiny_data().split("repair");
  for (const bool per_sample : {false, true}) {
    const auto one = locate::weight_scores(tiny_network(), layers, split, some_samples(),
                                           {.conv_per_sample = per_sample, .batching = 100});
    const auto two = locate::weight_scores(tiny_network(), layers, split, some_samples(),
                                           {.conv_per_sample = per_sample, .batching = 2});
    for (size_t l = 0; l < layers.size(); ++l) {
      REQUIRE(at::allclose(one[l].gradient_loss, two[l].gradient_loss, 1e-4, 1e-5));
      REQUIRE(at::allclose(one[l].forward_impact, two[l].forward_impact, 1e-4, 1e-7));
    }
  }
}

TEST_CASE("no samples, no scores") {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  for (const locate::WeightScores& scores :
       locate::weight_scores(tiny_network(), layers, tiny_data().split("repair"), {}, {})) {
    REQUIRE(scores.gradient_loss.abs().max().item<double>() == 0);
    REQUIRE(scores.forward_impact.abs().max().item<double>() == 0);
  }
}

TEST_CASE("choices of negatives and positives") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  REQUIRE(judgement.correct.size() + judgement.wrong.size() == 120);
  REQUIRE(judgement.wrong.size() == 20);  // every sixth label was replaced
  RandomStream stream(8);
  REQUIRE(locate::choose_negatives(judgement, {.which = "all"}, stream) == judgement.wrong);
  const std::vector<int64_t> some =
      locate::choose_negatives(judgement, {.which = "fraction", .fraction = 0.29}, stream);
  REQUIRE(some.size() == 5);
  REQUIRE(std::includes(judgement.wrong.begin(), judgement.wrong.end(), some.begin(), some.end()));
  REQUIRE(locate::choose_negatives(judgement, {.which = "fraction", .fraction = 0}, stream).size() == 1);

  size_t previous = 121, together = 0;
  std::set<int64_t> seen;
  for (int64_t rank = 1; rank <= 12; ++rank) {
    const std::vector<int64_t> pair =
        locate::choose_negatives(judgement, {.which = "pair", .pair_rank = rank}, stream);
    REQUIRE(pair.size() <= previous);
    previous = pair.size();
    together += pair.size();
    for (const int64_t n : pair) {
      REQUIRE(judgement.labels[n].item<int64_t>() == judgement.labels[pair[0]].item<int64_t>());
      REQUIRE(judgement.predictions[n].item<int64_t>() == judgement.predictions[pair[0]].item<int64_t>());
      REQUIRE(seen.insert(n).second);
    }
  }
  REQUIRE(together == 20);

  const std::vector<int64_t> positives = locate::matching_positives(judgement, 10, stream);
  std::map<int64_t, int64_t> of_class, there;
  for (const int64_t n : positives) ++of_class[judgement.labels[n].item<int64_t>()];
  for (const int64_t n : judgement.correct) ++there[judgement.labels[n].item<int64_t>()];
  for (const auto& [label, count] : there) {
    REQUIRE(of_class[label] == std::max<int64_t>(1, std::lround(10.0 * static_cast<double>(count) / 100)));
  }
  REQUIRE(
      std::includes(judgement.correct.begin(), judgement.correct.end(), positives.begin(), positives.end()));
  REQUIRE(locate::matching_positives(judgement, 100, stream) == judgement.correct);
}

}  // namespace
}  // namespace harness

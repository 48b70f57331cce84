#include <cmath>

#include "approaches/bounds/margin_bounds.hpp"
#include "approaches/bounds/neuron_site.hpp"
#include "approaches/dense_layers.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::head_network;
using testing::tiny_data;
using testing::tiny_network;

at::Tensor uniform(const std::vector<int64_t>& shape, RandomStream& stream) {
  at::Tensor x = at::empty(shape, at::kDouble);
  for (int64_t k = 0; k < x.numel(); ++k) x.data_ptr<double>()[k] = stream.uniform();
  return x;
}

// Boxes around `centre` of very different sizes, some of them points.
bounds::Box boxes_around(const at::Tensor& centre, RandomStream& stream) {
  at::Tensor radius = uniform(centre.sizes().vec(), stream).pow(3);
  for (int64_t n = 0; n < centre.size(0); ++n) radius[n] *= n % 4 == 0 ? 0 : std::pow(10, n % 4 - 3);
  const at::Tensor middle = centre.to(at::kDouble);
  return {middle - radius, middle + radius};
}

at::Tensor point_in(const bounds::Box& box, RandomStream& stream) {
  at::Tensor at = uniform(box.low.sizes().vec(), stream);
  if (stream.below(3) == 0) at = at.round();  // a corner
  return at::maximum(box.low, at::minimum(box.high, box.low + at * (box.high - box.low)));
}

int64_t outside(const at::Tensor& value, const bounds::Box& box) {
  return ((value < box.low) | (value > box.high)).sum().item<int64_t>();
}

// 10,000 points in boxes of the network's input; violations over all nodes.
void check_intervals(const Network& network) {
  RandomStream stream(3);
  const NodeId input = 0;
  REQUIRE(network.nodes()[input].kind == NodeKind::input);
  const bounds::PartialGraph graph(network, {input}, network.logits_node());
  const bounds::Box given =
      boxes_around(tiny_data().split("test").inputs(0, 20).repeat({10, 1, 1, 1}), stream);
  const bounds::Boxes exact = bounds::interval_bounds(graph, {{input, given}});
  const bounds::Boxes running = bounds::interval_bounds(graph, {{input, given}}, bounds::kRoundoffFloat);
  std::vector<NodeId> ids = graph.order();
  int64_t points = 0, violations = 0, values = 0;
  for (int round = 0; round < 50; ++round, points += 200) {
    const at::Tensor x = point_in(given, stream);
    std::map<NodeId, at::Tensor> all = {{input, x}};
    for (const NodeId id : ids) {
      std::vector<at::Tensor> inputs;
      for (const NodeId from : graph.node(id).inputs) inputs.push_back(all.at(from));
      all[id] = graph.compute(id, inputs);
      violations += outside(all[id], exact.at(id));
      values += all[id].numel();
    }
    // The rounded input may lie outside of a box that is a point.
    const at::Tensor rounded = x.to(at::kFloat);
    if (outside(rounded.to(at::kDouble), given) > 0 && round % 10 != 0) continue;
    const bounds::Box single = {rounded.to(at::kDouble), rounded.to(at::kDouble)};
    const bounds::Boxes of_run =
        round % 10 == 0 ? bounds::interval_bounds(graph, {{input, single}}, bounds::kRoundoffFloat) : running;
    const std::vector<at::Tensor> run = network.activations(rounded, ids);
    for (size_t k = 0; k < ids.size(); ++k) violations += outside(run[k].to(at::kDouble), of_run.at(ids[k]));
  }
  REQUIRE(points == 10000);
  REQUIRE(values > 1000000);
  REQUIRE(violations == 0);
  // Bounds of points are nothing but rounding.
  for (const NodeId id : ids) {
    const at::Tensor width = exact.at(id).high[0] - exact.at(id).low[0];
    REQUIRE((width <= 1e-9 * (1 + exact.at(id).max_size()[0])).all().item<bool>());
  }
}

TEST_CASE("intervals contain 10,000 random inputs at every node", "[bounds]") {
  for (const Network* network : {&tiny_network(), &branched_network(), &head_network("zoo")})
    check_intervals(*network);
}

TEST_CASE("the interval of a dense layer is that of the corners of its box", "[bounds]") {
  const Network& network = tiny_network();
  const TargetLayer layer = dense_layers(network)[1];  // 10 to 4
  const bounds::PartialGraph graph(network, {layer.input}, layer.node);
  RandomStream stream(5);
  const bounds::Box given = boxes_around(uniform({8, 10}, stream), stream);
  const bounds::Box found = bounds::interval_bounds(graph, {{layer.input, given}}).at(layer.node);
  at::Tensor corners = at::empty({1024, 8, 10}, at::kDouble);
  for (int64_t c = 0; c < 1024; ++c) {
    for (int64_t k = 0; k < 10; ++k)
      corners[c].select(1, k).copy_((c >> k & 1) != 0 ? given.high.select(1, k) : given.low.select(1, k));
  }
  const at::Tensor values = graph.value({{layer.input, corners.view({-1, 10})}}).view({1024, 8, 4});
  REQUIRE(at::allclose(found.low, values.amin(0), 1e-12, 1e-12));
  REQUIRE(at::allclose(found.high, values.amax(0), 1e-12, 1e-12));
}

TEST_CASE("lines enclose activations over intervals of every size", "[bounds]") {
  const Network& network = head_network("relaxable");
  RandomStream stream(7);
  int kinds = 0;
  for (const Node& node : network.nodes()) {
    if (!is_activation(node.kind)) continue;
    ++kinds;
    REQUIRE(bounds::relaxation_limitation(node).empty());
    const at::Tensor low = (uniform({4000}, stream) - 0.5) * (uniform({4000}, stream) * 5).exp();
    const at::Tensor width = (uniform({4000}, stream) * 40 - 36).exp();
    const bounds::Box box = {low, low + width};
    const bounds::Lines lines = bounds::relax(node, box, bounds::kRoundoffDouble);
    for (int k = 0; k <= 40; ++k) {
      const at::Tensor x = at::minimum(low + width * (k / 40.0), box.high);
      const at::Tensor y = node.kind == NodeKind::relu         ? x.relu()
                           : node.kind == NodeKind::leaky_relu ? at::leaky_relu(x, 0.2)
                           : node.kind == NodeKind::tanh       ? x.tanh()
                                                               : x.sigmoid();
      REQUIRE((lines.lower_slope * x + lines.lower_offset <= y).all().item<bool>());
      REQUIRE((lines.upper_slope * x + lines.upper_offset >= y).all().item<bool>());
    }
    // Nowhere wider than the interval's own range.
    const at::Tensor gap =
        (lines.upper_slope - lines.lower_slope) * (low + width / 2) + lines.upper_offset - lines.lower_offset;
    REQUIRE((gap <= width + 1e-9).all().item<bool>());
  }
  REQUIRE(kinds == 4);
}

TEST_CASE("linear bounds contain 10,000 random inputs and are tighter than intervals", "[bounds]") {
  const Network& network = head_network("relaxable");
  const NodeId input = 0;
  const bounds::PartialGraph graph(network, {input}, network.logits_node());
  REQUIRE_FALSE(bounds::refuse_without_relaxation(graph).has_value());
  RandomStream stream(9);
  const bounds::Box given = boxes_around(tiny_data().split("test").inputs(0, 20), stream);
  at::Tensor margins = at::zeros({1, 3, 4}, at::kDouble);
  for (int64_t r = 0; r < 3; ++r) {
    margins[0][r][r] = 1;
    margins[0][r][3] = -1;
  }
  const bounds::LinearBounds bounds(graph, {{input, given}});
  const bounds::AffineForms forms = bounds.below(margins);
  const at::Tensor min_value = bounds.min_value(forms);
  int64_t violations = 0, points = 0;
  for (int round = 0; round < 500; ++round, points += 20) {
    const at::Tensor x = point_in(given, stream);
    const at::Tensor form = forms.slope.at(input).matmul(x.flatten(1).unsqueeze(2)).squeeze(2) + forms.offset;
    const at::Tensor margin = graph.value({{input, x}}).matmul(margins[0].t());
    violations += (form > margin).sum().item<int64_t>() + (min_value > margin).sum().item<int64_t>();
    violations += (min_value > form + 1e-12).sum().item<int64_t>();
  }
  REQUIRE(points == 10000);
  REQUIRE(violations == 0);
  const bounds::Box simple = bounds::interval_bounds(graph, {{input, given}}).at(network.logits_node());
  const at::Tensor loose =
      simple.low.matmul(margins[0].clamp_min(0).t()) + simple.high.matmul(margins[0].clamp_max(0).t());
  REQUIRE((min_value >= loose - 1e-9).all().item<bool>());
  REQUIRE((min_value > loose + 1e-3).sum().item<int64_t>() > 20);
  // Points have no slack.
  REQUIRE(at::allclose(min_value[0], graph.value({{input, given.low}}).matmul(margins[0].t())[0], 0, 1e-9));
}

// The bound of a tail of dense, ReLU, dense (approaches/docs/VERE.md, Formulas), one number at a time.
std::pair<double, double> closed_form_bound(const std::vector<std::vector<double>>& w2,
                                            const std::vector<double>& z0, const std::vector<double>& v,
                                            double constant, int64_t n, double x0, double low, double high) {
  double at_low = constant, at_high = constant;
  for (size_t j = 0; j < z0.size(); ++j) {
    const double a = z0[j] + w2[j][static_cast<size_t>(n)] * (low - x0);
    const double b = z0[j] + w2[j][static_cast<size_t>(n)] * (high - x0);
    const double l = std::min(a, b), u = std::max(a, b);
    double slope = 0, intercept = 0;
    if (l >= 0)
      slope = 1;
    else if (u <= 0)
      slope = 0;
    else if (v[j] >= 0)
      slope = u > -l ? 1 : 0;
    else {
      slope = u / (u - l);
      intercept = -u * l / (u - l);
    }
    at_low += v[j] * (slope * a + intercept);
    at_high += v[j] * (slope * b + intercept);
  }
  return {at_low, at_high};
}

std::vector<std::vector<double>> rows_of(const at::Tensor& table) {
  std::vector<std::vector<double>> rows;
  for (int64_t r = 0; r < table.size(0); ++r) {
    const at::Tensor row = table[r].to(at::kDouble).contiguous();
    rows.emplace_back(row.data_ptr<double>(), row.data_ptr<double>() + row.numel());
  }
  return rows;
}

bounds::MarginQuestion question_on(const Network& network, NodeId layer, int64_t intervals) {
  const at::Tensor x = tiny_data().split("repair").inputs(0, 14);
  bounds::MarginQuestion question;
  question.values = network.activations(x, {layer})[0].to(at::kDouble);
  const at::Tensor low = question.values.amin(0), range = question.values.amax(0) - low;
  question.edges = (low - range).unsqueeze(1) +
                   2 * range.unsqueeze(1) * at::arange(intervals + 1, at::kDouble) / intervals;
  question.predicted = network.classify(x);
  question.labels = (question.predicted + 1 + at::arange(14) % 3) % 4;
  return question;
}

TEST_CASE("the closed form is CROWN's one number at a time, and the general relaxation's", "[bounds]") {
  const Network& network = head_network("two_layer_tail");
  const bounds::NeuronSite site = std::get<bounds::NeuronSite>(bounds::neuron_site(network, 1));
  const bounds::MarginBounds bounds(network, site.values), general(network, site.values, false);
  REQUIRE(bounds.closed_form());
  REQUIRE_FALSE(general.closed_form());
  const int64_t intervals = 7;
  const bounds::MarginQuestion question = question_on(network, site.values, intervals);
  const at::Tensor found = *bounds.ends(question);
  REQUIRE(found.sizes() == at::IntArrayRef({12, 14, intervals, 2}));
  REQUIRE(at::allclose(found, *general.ends(question), 0, 1e-11));

  const auto value = [&](const std::string& name) {
    return network.parameters()[static_cast<size_t>(network.find_parameter(name))].value.to(at::kDouble);
  };
  const auto w2 = rows_of(value("fc2.weight")), w3 = rows_of(value("fc3.weight"));
  int64_t relaxed = 0;
  for (int64_t n = 0; n < 14; ++n) {
    const int64_t y = question.labels[n].item<int64_t>(), p = question.predicted[n].item<int64_t>();
    const auto z0 =
        rows_of(at::linear(question.values[n], value("fc2.weight"), value("fc2.bias")).unsqueeze(0))[0];
    std::vector<double> v;
    for (size_t j = 0; j < z0.size(); ++j)
      v.push_back(w3[static_cast<size_t>(y)][j] - w3[static_cast<size_t>(p)][j]);
    const double constant = (value("fc3.bias")[y] - value("fc3.bias")[p]).item<double>();
    for (int64_t unit = 0; unit < 12; ++unit) {
      for (int64_t t = 0; t < intervals; ++t) {
        const double low = question.edges[unit][t].item<double>(),
                     high = question.edges[unit][t + 1].item<double>();
        const auto [at_low, at_high] =
            closed_form_bound(w2, z0, v, constant, unit, question.values[n][unit].item<double>(), low, high);
        REQUIRE(found[unit][n][t][0].item<double>() == Approx(at_low).margin(1e-11));
        REQUIRE(found[unit][n][t][1].item<double>() == Approx(at_high).margin(1e-11));
        at::Tensor moved = question.values[n].clone();
        moved[unit] = low;
        const at::Tensor logits = bounds.logits(moved.unsqueeze(0))[0];
        relaxed += (logits[y] - logits[p]).item<double>() > at_low + 1e-6;
      }
    }
  }
  REQUIRE(relaxed > 50);  // that is, not all ReLUs keep their sign
}

TEST_CASE("no margin is below its linear bound for 10,000 moved units", "[bounds]") {
  for (const std::string name : {"two_layer_tail", "deep_tail"}) {
    const Network& network = head_network(name);
    const bounds::NeuronSite site = std::get<bounds::NeuronSite>(bounds::neuron_site(network, 1));
    const bounds::MarginBounds bounds(network, site.values);
    REQUIRE(bounds.closed_form() == (name == "two_layer_tail"));
    const int64_t intervals = 5;
    const bounds::MarginQuestion question = question_on(network, site.values, intervals);
    const at::Tensor ends = *bounds.ends(question);
    RandomStream stream(13);
    int64_t violations = 0;
    double min_gap = 1e9;
    for (int round = 0; round < 10000; ++round) {
      const int64_t unit = stream.below(12), n = stream.below(14), t = stream.below(intervals);
      const double part = stream.below(4) == 0 ? static_cast<double>(stream.below(2)) : stream.uniform();
      at::Tensor moved = question.values[n].clone();
      const double low = question.edges[unit][t].item<double>(),
                   high = question.edges[unit][t + 1].item<double>();
      moved[unit] = std::clamp(low + part * (high - low), low, high);
      const at::Tensor logits = bounds.logits(moved.unsqueeze(0))[0];
      const double margin = (logits[question.labels[n]] - logits[question.predicted[n]]).item<double>();
      const double line =
          ends[unit][n][t][0].item<double>() * (1 - part) + ends[unit][n][t][1].item<double>() * part;
      violations += line > margin;
      min_gap = std::min(min_gap, margin - line);
    }
    REQUIRE(violations == 0);
    REQUIRE(min_gap < 1e-9);  // somewhere nothing is lost
  }
}

TEST_CASE("margin bounds are the same for any number of threads, and stop", "[bounds]") {
  const Network& network = head_network("two_layer_tail");
  const bounds::NeuronSite site = std::get<bounds::NeuronSite>(bounds::neuron_site(network, 1));
  const bounds::MarginQuestion question = question_on(network, site.values, 3);
  for (const bool closed_form : {true, false}) {
    const bounds::MarginBounds bounds(network, site.values, closed_form);
    const at::Tensor one = *bounds.ends(question);
    at::set_num_threads(3);
    const at::Tensor three = *bounds.ends(question);
    at::set_num_threads(1);
    REQUIRE(one.equal(three));
    REQUIRE_FALSE(bounds.ends(question, [] { return false; }).has_value());
  }
}

std::string refusal(const Network& network, int64_t check_layer = 1) {
  const auto site = bounds::neuron_site(network, check_layer);
  const auto* refusal = std::get_if<Refusal>(&site);
  return refusal == nullptr ? "" : refusal->code + ": " + refusal->text;
}

TEST_CASE("which units can be edited, and why others cannot", "[bounds]") {
  const bounds::NeuronSite site = std::get<bounds::NeuronSite>(bounds::neuron_site(tiny_network(), 1));
  REQUIRE(site.layer->weight == tiny_network().find_parameter("fc1.weight"));
  REQUIRE(site.next.weight == tiny_network().find_parameter("fc2.weight"));
  REQUIRE_FALSE(site.vgg_type);
  REQUIRE_FALSE(std::get<bounds::NeuronSite>(bounds::neuron_site(tiny_network(), 0)).layer.has_value());
  REQUIRE(refusal(tiny_network(), 2) ==
          "structure: the head has 2 dense layers in a row (fc1, fc2); check_layer 2 needs 3");
  REQUIRE(refusal(branched_network()) == "structure: the weights of shared are not its own");
  const auto of = [](const std::string& name) { return refusal(head_network(name)); };
  REQUIRE(of("two_dense").empty());
  REQUIRE(of("vgg").empty());
  REQUIRE(of("one_dense") == "structure: the head has 1 dense layer (dense); check_layer 1 needs 2");
  REQUIRE(of("norm_behind") == "structure: a is followed by batch_norm (n), not by a dense layer");
  REQUIRE(of("skip_behind").find("structure: the output of relu") == 0);
  REQUIRE(of("gelu_tail") == "operator: gelu (gelu_1) has no linear bounds");
  REQUIRE(of("steep_tail").find("operator: leaky_relu with a slope") == 0);
  REQUIRE(std::get<bounds::NeuronSite>(bounds::neuron_site(head_network("deep_tail"), 2)).layer->weight ==
          head_network("deep_tail").find_parameter("fc2.weight"));
}

}  // namespace
}  // namespace harness

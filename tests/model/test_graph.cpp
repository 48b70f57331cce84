#include "harness/model/graph.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

Node node(NodeKind kind, std::vector<NodeId> inputs, std::vector<int64_t> shape = {4}) {
  Node result;
  result.kind = kind;
  result.inputs = std::move(inputs);
  result.shape = std::move(shape);
  if (kind == NodeKind::add) result.attributes = ArithmeticAttributes{};
  return result;
}

// 0 input, 1 linear, 2 relu, 3 linear beside it, 4 sum of both, 5 doubled, 6 linear, 7 softmax
graph::Nodes branched() {
  return {node(NodeKind::input, {}, {8}), node(NodeKind::linear, {0}), node(NodeKind::relu, {1}),
          node(NodeKind::linear, {0}),    node(NodeKind::add, {2, 3}), node(NodeKind::add, {4, 4}),
          node(NodeKind::linear, {5}),    node(NodeKind::softmax, {6})};
}

std::vector<NodeId> marked(const graph::Marks& marks) {
  std::vector<NodeId> ids;
  for (size_t n = 0; n < marks.size(); ++n) {
    if (marks[n]) ids.push_back(static_cast<NodeId>(n));
  }
  return ids;
}

using Ids = std::vector<NodeId>;

}  // namespace

TEST_CASE("who reads a node") {
  const graph::Nodes nodes = branched();
  CHECK(graph::readers_of(nodes, 0) == Ids{1, 3});
  CHECK(graph::readers_of(nodes, 4) == Ids{5});
  CHECK(graph::readers_of(nodes, 7).empty());
  CHECK(graph::only_reader(nodes, 1) == 2);
  CHECK_FALSE(graph::only_reader(nodes, 0));  // two nodes
  CHECK_FALSE(graph::only_reader(nodes, 4));  // one node, twice
  CHECK_FALSE(graph::only_reader(nodes, 7));  // none
  CHECK(graph::reader_counts(nodes) == std::vector<int>{2, 1, 1, 1, 2, 1, 1, 0});
  CHECK(graph::reader_counts(nodes, graph::needed_for(nodes, {2})) ==
        std::vector<int>{1, 1, 0, 0, 0, 0, 0, 0});
  CHECK(graph::activation_behind(nodes, 1) == 2);
  CHECK(graph::activation_behind(nodes, 3) == 3);
}

TEST_CASE("what a node depends on, and what depends on it") {
  const graph::Nodes nodes = branched();
  CHECK(marked(graph::needed_for(nodes, {2})) == Ids{0, 1, 2});
  CHECK(marked(graph::needed_for(nodes, {2, 3})) == Ids{0, 1, 2, 3});
  CHECK(marked(graph::needed_for(nodes, {4}, [](NodeId id) { return id == 2; })) == Ids{0, 2, 3, 4});
  graph::Marks sources(nodes.size(), 0);
  sources[3] = 1;
  CHECK(marked(graph::dependents_of(nodes, sources)) == Ids{3, 4, 5, 6, 7});
}

TEST_CASE("what connections go past") {
  const graph::Nodes nodes = branched();
  CHECK(marked(graph::bypassed_before(nodes, 6)) == Ids{1, 2, 3});
  CHECK(marked(graph::bypassed_before(nodes, 2)).empty());  // the way to it is a chain
}

TEST_CASE("kinds and sizes of nodes") {
  graph::Nodes nodes = branched();
  CHECK(graph::is_dense(nodes[1]));
  CHECK_FALSE(graph::is_dense(node(NodeKind::linear, {0}, {3, 4})));  // on a sequence
  CHECK_FALSE(graph::is_dense(nodes[2]));
  Node convolution = node(NodeKind::conv, {0}, {4, 2, 2});
  ConvAttributes attributes;
  convolution.attributes = attributes;
  CHECK(graph::is_ungrouped_convolution(convolution));
  attributes.groups = 2;
  convolution.attributes = attributes;
  CHECK_FALSE(graph::is_ungrouped_convolution(convolution));
  const auto node_of = [&](NodeId id) -> const Node& { return nodes[static_cast<size_t>(id)]; };
  CHECK(graph::is_plain_sum(nodes[4], node_of));
  nodes[4].attributes = ArithmeticAttributes{.alpha = 2};
  CHECK_FALSE(graph::is_plain_sum(nodes[4], node_of));
  CHECK(graph::has_kind(nodes, NodeKind::softmax));
  CHECK_FALSE(graph::has_kind(nodes, NodeKind::dropout));
  CHECK(graph::value_count({3, 4, 5}) == 60);
  CHECK(graph::max_value_count(nodes) == 8);
  CHECK(graph::max_value_count(nodes, 1) == 4);
  CHECK(graph::total_value_count(nodes) == 36);
}

TEST_CASE("parameters of nodes") {
  const Network network = load_fixture("residual_scripted");
  const std::vector<int> counts = graph::parameter_reader_counts(network);
  CHECK(std::ranges::all_of(counts, [](int count) { return count <= 1; }));
  for (const Node& one : network.nodes()) {
    CHECK(graph::parameter_in(one, 7) == -1);
    const std::vector<at::Tensor> values = graph::constant_values(network, one);
    REQUIRE(values.size() == one.parameters.size());
    for (size_t role = 0; role < values.size(); ++role) {
      const ParameterId id = graph::parameter_in(one, role);
      CHECK(id == one.parameters[role]);
      CHECK(values[role].defined() == (id >= 0));
      if (id < 0) continue;
      CHECK(values[role].is_same(graph::parameter_value(network, id)) == false);
      CHECK(values[role].data_ptr() == graph::parameter_value(network, id).data_ptr());
    }
    if (one.kind != NodeKind::batch_norm) continue;
    const auto [factor, addend] = graph::batch_norm_map(one, values);
    at::manual_seed(3);
    const at::Tensor x = at::randn({2, factor.size(0), 4, 4}, at::kDouble);
    const at::Tensor mapped = x * factor.view({1, -1, 1, 1}) + addend.view({1, -1, 1, 1});
    const auto in_double = [](const at::Tensor& value) {
      return value.defined() ? value.to(at::kDouble) : value;
    };
    const at::Tensor expected = at::batch_norm(x, in_double(values[0]), in_double(values[1]),
                                               in_double(values[2]), in_double(values[3]), false, 0.1,
                                               std::get<BatchNormAttributes>(one.attributes).epsilon, false);
    CHECK(relative_difference(mapped, expected) < 1e-12);
  }
  CHECK(graph::number_type(network) == at::kFloat);
  CHECK(graph::number_type(load_fixture("double_scripted")) == at::kDouble);
}

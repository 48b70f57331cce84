#include "harness/core/error.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

std::string graph_text(const Network& network) {
  std::string text;
  for (const Node& node : network.nodes()) {
    text += std::string(to_text(node.kind)) + " " + node.name + " <-";
    for (const NodeId input : node.inputs) text += " " + std::to_string(input);
    for (const ParameterId id : node.parameters) text += id < 0 ? " -" : " " + network.parameters()[id].name;
    text += " {" + attributes_text(node) + "}\n";
  }
  return text;
}

std::string kinds(const Network& network) {
  std::string found;
  for (const Node& node : network.nodes())
    found += (found.empty() ? "" : " ") + std::string(to_text(node.kind));
  return found;
}

Problem problem_of(const std::string& name) {
  try {
    load_fixture(name);
  } catch (const UserError& error) {
    return error.problems().at(0);
  }
  FAIL("loaded: " << name);
  return {};
}

const std::vector<std::string> kImportable = {"plain",        "residual",    "dense", "sizes",
                                              "convolutions", "activations", "pools", "normalise",
                                              "shapes",       "dropouts",    "tied",  "products"};

}  // namespace

TEST_CASE("scripted and traced exports give one layer graph and TorchScript's outputs") {
  for (const std::string& name : kImportable) {
    INFO(name);
    const Network scripted = load_fixture(name + "_scripted"), traced = load_fixture(name + "_traced");
    INFO(scripted.report().unknown_operator << " " << scripted.report().detail);
    INFO(traced.report().unknown_operator << " " << traced.report().detail);
    REQUIRE(scripted.importable());
    REQUIRE(traced.importable());
    CHECK(graph_text(scripted) == graph_text(traced));
    CHECK(scripted.report().max_rel_difference <= 1e-5);
    CHECK(traced.report().max_rel_difference <= 1e-5);
    CHECK(scripted.report().training_obstacle.empty());
    const at::Tensor all = images(7);
    const at::Tensor whole = scripted.output(all);
    CHECK(whole.sizes() == at::IntArrayRef({7, 4}));
    CHECK(relative_difference(
              at::cat({scripted.output(all.slice(0, 0, 1)), scripted.output(all.slice(0, 1))}), whole) <=
          1e-5);
  }
}

TEST_CASE("the graph holds what the model computes, no more") {
  CHECK(kinds(load_fixture("plain_scripted")) == "input conv relu max_pool reshape linear");
  CHECK(kinds(load_fixture("residual_scripted")) ==
        "input conv batch_norm relu conv batch_norm relu conv batch_norm add relu mean linear");
  const Network dropouts = load_fixture("dropout_identity_scripted");
  CHECK(kinds(dropouts) == "input conv batch_norm dropout add relu reshape dropout linear");
  CHECK(dropouts.nodes()[4].inputs == std::vector<NodeId>{3, 2});
  CHECK(dropouts.nodes()[1].name == "conv");
  CHECK(kinds(load_fixture("products_scripted")) == "input reshape linear tanh linear");
  // An even kernel with padding "same" pads one side more.
  CHECK(kinds(load_fixture("convolutions_scripted")) == "input conv pad conv conv conv mean mean linear");
}

TEST_CASE("a trailing softmax is kept apart") {
  const Network network = load_fixture("activations_scripted");
  CHECK(network.ends_in_softmax());
  const at::Tensor x = images(3);
  CHECK(relative_difference(at::softmax(network.logits(x), 1), network.output(x)) <= 1e-6);
  CHECK(at::equal(network.probabilities(x), network.output(x)));
  const Network log = load_fixture("pools_scripted");
  CHECK_FALSE(log.ends_in_softmax());
  CHECK(relative_difference(log.probabilities(x), log.output(x).exp()) <= 1e-6);
  CHECK(relative_difference(at::log_softmax(log.logits(x), 1), log.output(x)) <= 1e-6);
}

TEST_CASE("parameters are one entry per storage, with aliases") {
  Network network = load_fixture("tied_scripted");
  const ParameterId id = network.find_parameter("second.weight");
  REQUIRE(id >= 0);
  CHECK(id == network.find_parameter("first.weight"));
  CHECK(network.parameters()[id].aliases.size() == 1);
  int readers = 0;
  for (const Node& node : network.nodes())
    readers += std::count(node.parameters.begin(), node.parameters.end(), id);
  CHECK(readers == 2);
  const at::Tensor before = network.output(images(2));
  Network fork = network.fork();
  fork.set_parameter(id, fork.parameters()[id].value * 2);
  CHECK(at::equal(network.output(images(2)), before));
  CHECK_FALSE(at::equal(fork.output(images(2)), before));
}

TEST_CASE("what has no layer node makes a black box that names it") {
  const std::map<std::string, std::string> expected = {
      {"branch_scripted", "aten::sum"},   {"unknown_scripted", "aten::cumsum"},
      {"unknown_traced", "aten::cumsum"}, {"view_scripted", "aten::relu_"},
      {"masked_scripted", "parameter"},   {"mixes_scripted", "aten::mean"},
      {"mixes_traced", "aten::mean"},     {"train_mode_traced", "aten::batch_norm"}};
  for (const auto& [name, operator_name] : expected) {
    INFO(name);
    const Network network = load_fixture(name);
    CHECK_FALSE(network.importable());
    CHECK(network.report().unknown_operator == operator_name);
    CHECK_FALSE(network.report().detail.empty());
    CHECK_FALSE(network.report().training_obstacle.empty());
    CHECK(network.output(images(5)).sizes() == at::IntArrayRef({5, 4}));
    if (name != "train_mode_traced")
      CHECK(at::equal(network.fork().output(images(5)), network.output(images(5))));
    CHECK(network.digest() == network.fork().digest());
    at::Tensor x = images(5).requires_grad_(true);
    CHECK(network.differentiable_output(x).requires_grad());
  }
}

TEST_CASE("a batch size baked into a trace is seen") {
  const Network flatten = load_fixture("baked_flatten_traced");
  REQUIRE(flatten.importable());
  CHECK(flatten.report().baked_batch == 4);
  CHECK(flatten.report().max_rel_difference <= 1e-5);
  CHECK(flatten.output(images(3)).size(0) == 3);
  const Problem problem = problem_of("baked_batch_traced");
  CHECK(problem.place == "forward()");
}

TEST_CASE("a model that computes something else in train mode cannot be retrained") {
  const Network network = load_fixture("trains_scripted");
  REQUIRE(network.importable());
  CHECK_FALSE(network.report().training_obstacle.empty());
  CHECK(load_fixture("dropouts_scripted").report().follows_train);
  CHECK_FALSE(load_fixture("dropouts_traced").report().follows_train);
}

TEST_CASE("outputs and number types that cannot be handled are refused with the remedy") {
  CHECK(problem_of("tuple_scripted").suggestion.find("wrapper") != std::string::npos);
  CHECK(problem_of("dict_scripted").suggestion.find("wrapper") != std::string::npos);
  CHECK(problem_of("logit_scripted").found == "one value an image");
  CHECK(problem_of("half_scripted").suggestion.find("float()") != std::string::npos);
  CHECK(problem_of("quantised_scripted").found == "a quantised model");
  CHECK(load_fixture("double_scripted").output(images(2)).scalar_type() == at::kDouble);
  TemporaryFolder folder;
  std::ofstream(folder / "text.pt") << "no model";
  CHECK_THROWS_AS(Network::load(folder / "text.pt", images(2)), UserError);
  CHECK_THROWS_AS(Network::load(folder / "absent.pt", images(2)), UserError);
  CHECK_THROWS_AS(Network::load(fixture("plain_scripted"), at::zeros({2, 1, 8, 8})), UserError);
}

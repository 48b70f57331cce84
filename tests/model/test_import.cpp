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

const std::vector<std::string> kImportable = {
    "plain",        "residual",         "dense",          "sizes",
    "convolutions", "activations",      "pools",          "normalise",
    "shapes",       "dropouts",         "tied",           "products",
    "gain",         "stored_products",  "shared_product", "zero_pad",
    "class_token",  "squeezing",        "sigmoid",        "tied_by_data",
    "one_storage",  "dropout_in_place", "written_view"};

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
    CHECK(scripted.report().training_limitation.empty());
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
  CHECK(kinds(load_fixture("stored_products_scripted")) ==
        "input reshape linear relu linear relu linear tanh linear");
  CHECK(kinds(load_fixture("shared_product_scripted")) == "input reshape linear add sigmoid mul linear");
  CHECK(kinds(load_fixture("zero_pad_scripted")) ==
        "input conv relu avg_pool conv relu concat add mean linear");
  CHECK(kinds(load_fixture("class_token_scripted")) ==
        "input conv relu reshape permute concat add mul tanh mean linear");
  CHECK(kinds(load_fixture("squeezing_scripted")) == "input conv relu adaptive_avg_pool reshape linear");
  CHECK(kinds(load_fixture("dropout_in_place_scripted")) ==
        "input conv relu dropout max_pool reshape dropout linear relu dropout linear");
  CHECK(kinds(load_fixture("accumulator_scripted")) ==
        "input conv relu add tanh add max_pool reshape linear");
  for (const char* name : {"formatted_scripted", "call_counter_scripted"})
    CHECK(kinds(load_fixture(name)) == "input conv relu max_pool reshape linear");
  CHECK(kinds(load_fixture("optional_scripted")) == "input conv relu max_pool reshape mul linear");
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

TEST_CASE("a trailing sigmoid is a tail: logits are what it reads") {
  const Network network = load_fixture("sigmoid_scripted");
  const at::Tensor x = images(3);
  CHECK_FALSE(network.ends_in_softmax());
  CHECK(network.logits_node() + 1 == network.output_node());
  CHECK(relative_difference(at::sigmoid(network.logits(x)), network.output(x)) <= 1e-6);
  CHECK(relative_difference(network.probabilities(x), at::softmax(network.logits(x), 1)) <= 1e-6);
  CHECK(at::equal(network.classify(x), network.logits(x).argmax(1)));
  CHECK(network.nodes()[network.logits_node()].kind == NodeKind::linear);
}

TEST_CASE("parameters are one entry per storage, with aliases") {
  for (const std::string name : {"tied_scripted", "tied_by_data_scripted", "tied_by_data_traced"}) {
    INFO(name);
    Network network = load_fixture(name);
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
  // Disjoint parts of one memory are parameters of their own.
  const Network apart = load_fixture("one_storage_scripted");
  CHECK(apart.parameters().size() == 4);
  for (const Parameter& parameter : apart.parameters()) CHECK(parameter.aliases.empty());
}

TEST_CASE("what has no layer node makes a black box that names it") {
  const std::map<std::string, std::string> expected = {
      {"branch_scripted", "aten::sum"},
      {"unknown_scripted", "aten::cumsum"},
      {"unknown_traced", "aten::cumsum"},
      {"view_scripted", "aten::relu_"},
      {"masked_scripted", "weights computed in forward(): conv.weight"},
      {"mixes_scripted", "aten::mean"},
      {"mixes_traced", "aten::mean"},
      {"train_mode_traced", "aten::batch_norm"},
      {"concatenated_scripted", "weights computed in forward(): fc.weight, fc2.weight"},
      {"stacked_scripted", "weights computed in forward(): rows.0, rows.1, rows.2, rows.3"},
      {"read_number_scripted", "weights computed in forward(): gain"},
      {"derived_number_scripted", "weights computed in forward(): gain"},
      {"decided_scripted", "weights computed in forward(): gain"},
      {"written_weight_scripted", "weights computed in forward(): fc.weight"},
      {"reshaped_scale_scripted", "weights computed in forward(): scale"},
      {"both_orientations_scripted", "one weight in two orientations: w"},
      {"averages_scripted", "running averages computed with in forward(): bn.running_var"},
      {"overlapping_scripted", "shared storage"},
      {"normed_squeezing_scripted", "aten::layer_norm"},
      {"mutating_scripted", "differs from TorchScript"},
      {"lone_scripted", "differs from TorchScript"},
      {"nan_scripted", "differs from TorchScript"}};
  for (const auto& [name, operator_name] : expected) {
    INFO(name);
    const Network network = load_fixture(name);
    CHECK_FALSE(network.importable());
    CHECK(network.report().unknown_operator == operator_name);
    CHECK_FALSE(network.report().detail.empty());
    CHECK_FALSE(network.report().training_limitation.empty());
    CHECK(network.output(images(5)).sizes() == at::IntArrayRef({5, 4}));
    if (name != "train_mode_traced" && name != "mutating_scripted" && name != "nan_scripted")
      CHECK(at::equal(network.fork().output(images(5)), network.output(images(5))));
    CHECK(network.digest() == network.fork().digest());
    at::Tensor x = images(5).requires_grad_(true);
    CHECK(network.differentiable_output(x).requires_grad());
  }
}

TEST_CASE("a model whose answers follow the batch or the call comes with what its owner can do") {
  for (const std::string name : {"mutating_scripted", "train_mode_traced"}) {
    INFO(name);
    CHECK(load_fixture(name).report().detail.find("model.eval()") != std::string::npos);
  }
}

TEST_CASE("an import that differs from TorchScript is a black box, with the number") {
  // Three times the buffer in every call: what the recording sees is no answer of its own.
  CHECK(load_fixture("mutating_scripted").report().detail.find("writes to k (aten::mul_)") !=
        std::string::npos);
  const ImportReport lone = load_fixture("lone_scripted").report();
  CHECK(lone.max_rel_difference > 1e-4);
  CHECK(lone.detail.find("of the greatest output on 1 image (cpu)") != std::string::npos);
  CHECK(std::isnan(load_fixture("nan_scripted").report().max_rel_difference));
  // The sample's size is not the working batch's.
  Network large = load_fixture("large_batch_scripted");
  REQUIRE(large.importable());
  large.verify(images(5), 8);
  REQUIRE(large.importable());
  large.verify(images(5), 9);
  REQUIRE_FALSE(large.importable());
  CHECK(large.report().unknown_operator == "differs from TorchScript");
  CHECK(large.report().detail.find("on 9 images (cpu)") != std::string::npos);
  CHECK(large.nodes().empty());
  CHECK(large.output(images(9)).sizes() == at::IntArrayRef({9, 4}));
  CHECK_FALSE(at::equal(large.output(images(9)).slice(0, 0, 8), large.output(images(8))));
  // Values that were written before are kept.
  Network changed = load_fixture("large_batch_scripted");
  changed.set_parameter(0, changed.parameters()[0].value * 2);
  const at::Tensor wanted = changed.output(images(8));
  changed.verify(images(5), 9);
  CHECK(relative_difference(changed.output(images(8)), wanted) <= 1e-6);
  // One size alone is TorchScript's.
  Network baked = load_fixture("baked_flatten_traced");
  baked.verify(images(5), 9);
  CHECK(baked.importable());
  // Lone images that TorchScript cannot take are none of its answers.
  Network squeezing = load_fixture("squeezing_scripted");
  squeezing.verify(images(5), 3);
  CHECK(squeezing.importable());
}

TEST_CASE("both names of memory that overlaps are said, and a frozen model is called frozen") {
  const std::string overlap = load_fixture("overlapping_scripted").report().detail;
  CHECK(overlap.find("fc.bias") != std::string::npos);
  CHECK(overlap.find("out.bias") != std::string::npos);
  const Network frozen = load_fixture("frozen_scripted");
  CHECK(frozen.importable());
  CHECK(frozen.report().detail.find("before torch.jit.freeze") != std::string::npos);
  CHECK(frozen.report().training_limitation == frozen.report().detail);
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
  CHECK_FALSE(network.report().training_limitation.empty());
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

// Import of every architecture of the study on real weights or random ones (made by scripts/test-data), and
// the accuracy of published CIFAR-10 networks.
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

const std::filesystem::path kData = "data";

void need(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file))
    skip_process(file.string() + " is not there; scripts/test-data makes it");
}

std::string graph_text(const Network& network) {
  std::string text;
  for (const Node& node : network.nodes()) {
    text += std::string(to_text(node.kind)) + " " + node.name + " " + attributes_text(node);
    for (const NodeId input : node.inputs) text += " " + std::to_string(input);
    for (const ParameterId id : node.parameters) text += id < 0 ? " -" : " " + network.parameters()[id].name;
    text += "\n";
  }
  return text;
}

const std::map<std::string, std::vector<int64_t>> kArchitectures = {
    {"lenet5", {4, 1, 28, 28}},   {"resnet20", {4, 3, 32, 32}}, {"resnet32", {4, 3, 32, 32}},
    {"resnet44", {4, 3, 32, 32}}, {"resnet56", {4, 3, 32, 32}}, {"vgg16", {4, 3, 32, 32}},
    {"resnet18", {4, 3, 32, 32}}, {"facenet", {4, 3, 64, 64}},  {"densenet121", {2, 3, 224, 224}},
};

double accuracy(const Network& network, const Split& split) {
  int64_t right = 0;
  for (int64_t begin = 0; begin < split.size(); begin += 250) {
    const int64_t end = std::min<int64_t>(begin + 250, split.size());
    right += network.classify(split.inputs(begin, end))
                 .eq(split.labels().slice(0, begin, end))
                 .sum()
                 .item<int64_t>();
  }
  return 100.0 * static_cast<double>(right) / static_cast<double>(split.size());
}

}  // namespace

TEST_CASE("every architecture imports alike from script and trace") {
  need(kData / "random" / "densenet121_traced.pt");
  for (const auto& [name, shape] : kArchitectures) {
    at::manual_seed(1);
    const at::Tensor sample = at::rand(shape);
    const Network scripted = Network::load(kData / "random" / (name + "_scripted.pt"), sample);
    const Network traced = Network::load(kData / "random" / (name + "_traced.pt"), sample);
    INFO(name << " " << scripted.report().unknown_operator << " " << traced.report().unknown_operator);
    REQUIRE(scripted.importable());
    REQUIRE(traced.importable());
    CHECK(graph_text(scripted) == graph_text(traced));
    CHECK(scripted.report().max_rel_difference <= 1e-5);
    CHECK(traced.report().max_rel_difference <= 1e-5);
    CHECK(scripted.report().training_limitation.empty());
    const at::Tensor logits = scripted.logits(sample);
    const double difference =
        ((logits - traced.logits(sample)).abs().max() / logits.abs().max()).item<double>();
    CHECK(difference <= 1e-5);
    std::printf("%-12s %4zu nodes, relative difference to TorchScript %.1e scripted, %.1e traced\n",
                name.c_str(), scripted.nodes().size(), scripted.report().max_rel_difference,
                traced.report().max_rel_difference);
    TemporaryFolder folder;
    scripted.save(folder / "saved.pt");
    const std::string answer = run_python(
        "import torch\na = torch.jit.load('" + (folder / "saved.pt").string() + "')\nb = torch.jit.load('" +
        (kData / "random" / (name + "_scripted.pt")).string() + "')\nx = torch.rand(2, " +
        std::to_string(shape[1]) + ", " + std::to_string(shape[2]) + ", " + std::to_string(shape[3]) +
        ")\nwith torch.no_grad(): print(torch.equal(a(x), b(x)))\n");
    CHECK(answer == "True\n");
  }
}

TEST_CASE("published CIFAR-10 networks reach their accuracy") {
  need(kData / "cifar10" / "cifar10.h5");
  need(kData / "cifar10" / "resnet56.pt");
  const Dataset data = Dataset::open(kData / "cifar10" / "cifar10.h5");
  const Split &repair = data.split("repair"), &test = data.split("test");
  for (const auto& [name, expected] : std::map<std::string, double>{{"resnet20", 91.7}, {"resnet56", 93.4}}) {
    const Network network = Network::load(kData / "cifar10" / (name + ".pt"), test.inputs(0, 4));
    REQUIRE(network.importable());
    const double found =
        (accuracy(network, repair) + accuracy(network, test)) / 2;  // halves of the test images
    std::printf("%s: %.2f %% of the 10,000 test images, relative difference %.1e\n", name.c_str(), found,
                network.report().max_rel_difference);
    CHECK(found == Approx(expected).margin(0.2));
    CHECK(network.report().max_rel_difference <= 1e-5);
  }
}

// Black-box models on another device than the one they were made on: what their code creates there goes
// along.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <filesystem>
#include <sstream>

#include "harness/core/error.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/implementation.hpp"
#include "harness/model/jit_nodes.hpp"

namespace harness {
namespace {

std::vector<torch::jit::Node*> all_nodes(std::shared_ptr<torch::jit::Graph>& graph) {
  std::vector<torch::jit::Node*> nodes;
  torch::jit::DepthFirstGraphNodeIterator each(graph);
  while (torch::jit::Node* node = each.next()) nodes.push_back(node);
  return nodes;
}

bool holds_tensor(const c10::IValue& value) {
  bool found = false;
  value.visit([&](const c10::IValue& part) {
    found = found || part.isTensor();
    return found;  // true: no need to look into its parts
  });
  return found;
}

// A constant that is a device, or has tensors in it, in its form for `device`.
void place_constant(torch::jit::Graph& graph, torch::jit::Node* node, at::Device device) {
  const auto value = torch::jit::toIValue(node->output());
  if (!value || (!value->isDevice() && !holds_tensor(*value))) return;
  const torch::jit::WithInsertPoint here(node);
  node->output()->replaceAllUsesWith(
      graph.insertConstant(value->isDevice() ? c10::IValue(device) : value->deepcopy(device)));
}

// torch.zeros(4) and the like: where they name no device and read no tensor, PyTorch takes the CPU.
void place_factory(torch::jit::Graph& graph, torch::jit::Node* node, at::Device device) {
  const c10::FunctionSchema* schema = node->maybeSchema();
  if (schema == nullptr) return;
  const auto index = schema->argumentIndexWithName("device");
  if (!index || !node->input(static_cast<size_t>(*index))->mustBeNone()) return;
  for (const torch::jit::Value* input : node->inputs()) {
    if (input->type()->isSubtypeOf(*c10::TensorType::get())) return;
  }
  const torch::jit::WithInsertPoint here(node);
  node->replaceInput(static_cast<size_t>(*index), graph.insertConstant(c10::IValue(device)));
}

// The module's forward with all its constants on `device`, a graph of its own.
std::shared_ptr<torch::jit::Function> placed_forward(const torch::jit::Module& module, at::Device device) {
  std::shared_ptr<torch::jit::Graph> graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  for (torch::jit::Node* node : all_nodes(graph)) {
    if (node->kind() == c10::prim::Constant) {
      place_constant(*graph, node, device);
    } else {
      place_factory(*graph, node, device);
    }
  }
  return std::make_shared<torch::jit::GraphFunction>("forward", graph, nullptr);
}

// What still needs another device: "aten::cpu in line 12 of net.py", or the whole forward().
std::string culprit(const torch::jit::Function& forward) {
  auto graph = static_cast<const torch::jit::GraphFunction&>(forward).graph();
  for (const torch::jit::Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind != "aten::cpu" && kind != "aten::cuda") continue;
    const auto place = node->sourceRange().file_line_col();
    if (!place) return kind;
    const auto& [file, line, column] = *place;
    return kind + " in line " + std::to_string(line) + " of " +
           std::filesystem::path(file).filename().string();
  }
  return "forward()";
}

}  // namespace

c10::IValue run_placed(torch::jit::Function& forward, torch::jit::Module& module, const at::Tensor& x) {
  torch::jit::GraphOptimizerEnabledGuard no_optimisation(false);
  torch::jit::Stack stack = {module._ivalue(), x};
  forward.run(stack);
  return stack.at(0);
}

void place_black_box(Network::Implementation& self, at::Device device) {
  self.black_box = std::make_shared<torch::jit::Module>(self.black_box->deepcopy(device));
  self.placed = device.is_cpu() ? nullptr : placed_forward(*self.black_box, device);
  if (!self.placed || !self.probe.defined()) return;
  std::ostringstream name;
  name << device;
  const auto refuse = [&](const std::string& found) {
    throw UserError(Problem{self.file, culprit(*self.placed), found, "a model that runs on " + name.str(),
                            "register its constant tensors as buffers, and take the device of the input"});
  };
  try {
    const at::NoGradGuard no_grad;
    const c10::IValue output = run_placed(*self.placed, *self.black_box, self.probe.to(device));
    if (output.toTensor().device().type() != device.type()) refuse("an output that stays on the CPU");
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    refuse(cause_of(error));
  } catch (const UserError&) {
    throw;
  } catch (const std::runtime_error& error) {
    refuse(cause_of(error));
  }
}

}  // namespace harness

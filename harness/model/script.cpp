#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>

#include "harness/core/error.hpp"
#include "harness/model/implementation.hpp"

namespace harness {
namespace {

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

std::string shape_text(c10::IntArrayRef sizes) {
  std::ostringstream out;
  out << sizes;
  return out.str();
}

// What stays unsupported on purpose, each with what the owner of the model can do about it.
void refuse_number_types(const torch::jit::Module& module, const std::string& file) {
  for (const auto& item : module.named_parameters()) {
    const auto type = item.value.scalar_type();
    if (type == at::kHalf || type == at::kBFloat16) {
      throw UserError(Problem{file, item.name, std::string("half precision (") + toString(type) + ")",
                              "float32", "export the model after model.float()"});
    }
  }
  auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  torch::jit::DepthFirstGraphNodeIterator nodes(graph);
  while (const torch::jit::Node* node = nodes.next()) {
    if (std::string_view(node->kind().toQualString()).starts_with("quantized::")) {
      throw UserError(Problem{file, node->kind().toQualString(), "a quantised model", "float32 weights",
                              "export the model before it is quantised"});
    }
  }
}

void refuse_output(const c10::IValue& output, int64_t batch, const std::string& file) {
  const std::string place = "output of forward()";
  if (!output.isTensor()) {
    throw UserError(Problem{file, place, output.tagKind(), "one tensor (images, classes)",
                            "export a wrapper whose forward() returns the class scores alone"});
  }
  const at::Tensor scores = output.toTensor();
  if (scores.dim() != 2 || scores.size(0) != batch) {
    throw UserError(Problem{file, place, "shape " + shape_text(scores.sizes()),
                            "shape [" + std::to_string(batch) + ", classes]",
                            "export a wrapper whose forward() returns one row of class scores an image"});
  }
  if (scores.size(1) == 1) {
    throw UserError(Problem{file, place, "one value an image", "one score for each class, at least two",
                            "export a wrapper that returns torch.cat([-z, z], 1) / 2 of the logit z"});
  }
}

}  // namespace

torch::jit::Module load_script(const std::filesystem::path& file) {
  if (!std::filesystem::is_regular_file(file)) {
    throw UserError(Problem{file.string(), "", "no such file", "a TorchScript model", "scripts/export"});
  }
  try {
    torch::jit::Module module = torch::jit::load(file.string(), at::kCPU);
    module.eval();
    module.get_method("forward");
    return module;
  } catch (const std::exception& error) {
    throw UserError(Problem{file.string(), "", first_line(error.what()),
                            "a TorchScript file with a forward()",
                            "torch.jit.save(torch.jit.script(model), FILE), or scripts/export"});
  }
}

c10::IValue run_script(torch::jit::Module& module, const at::Tensor& x) {
  // Without optimisation: its profiling runs and fusions cost more than they give here.
  torch::jit::GraphOptimizerEnabledGuard no_optimisation(false);
  return module.forward({x});
}

Network Network::load(const std::filesystem::path& file, const at::Tensor& sample) {
  auto implementation = std::make_unique<Implementation>();
  torch::jit::Module module = load_script(file);
  refuse_number_types(module, file.string());
  for (const auto& item : module.named_parameters()) {
    if (item.value.is_floating_point()) {
      implementation->dtype = item.value.scalar_type();
      break;
    }
  }
  implementation->original = std::make_shared<torch::jit::Module>(module);
  implementation->input_shape = sample.sizes().slice(1).vec();
  at::NoGradGuard no_grad;
  import_graph(*implementation, sample.to(implementation->dtype));
  // A trace with a baked batch size runs in TorchScript with that size only.
  const int64_t baked = implementation->report.baked_batch;
  const at::Tensor probe = baked > 0 ? sample.slice(0, 0, 1).repeat({baked, 1, 1, 1}) : sample;
  implementation->probe = probe.to(implementation->dtype);
  implementation->file = file.string();
  try {
    torch::jit::Module copy = module.deepcopy();
    const c10::IValue output = run_script(copy, probe.to(implementation->dtype).clone());
    refuse_output(output, probe.size(0), file.string());
    implementation->classes = output.toTensor().size(1);
    if (implementation->report.importable) {
      const at::Tensor ours =
          implementation->evaluate({implementation->output}, {{0, probe.to(implementation->dtype)}})[0];
      const at::Tensor theirs = output.toTensor();
      const double scale = std::max(theirs.abs().max().item<double>(), 1e-30);
      implementation->report.max_abs_difference = (ours - theirs).abs().max().item<double>();
      implementation->report.max_rel_difference = implementation->report.max_abs_difference / scale;
    }
  } catch (const c10::Error& error) {
    throw UserError(Problem{file.string(), "forward()", first_line(error.what_without_backtrace()),
                            "a model that takes images of shape " + shape_text(sample.sizes()), ""});
  } catch (const std::runtime_error& error) {
    if (dynamic_cast<const UserError*>(&error) != nullptr) throw;
    throw UserError(Problem{file.string(), "forward()", first_line(error.what()),
                            "a model that takes images of shape " + shape_text(sample.sizes()), ""});
  }
  return Network(std::move(implementation));
}

}  // namespace harness

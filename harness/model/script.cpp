#include <torch/csrc/jit/runtime/graph_executor.h>

#include "harness/core/error.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/implementation.hpp"
#include "harness/model/model_file.hpp"
#include "harness/model/script_checks.hpp"
#include "harness/model/storage_check.hpp"

namespace harness {
namespace {

// forward() fails: its cause, as the owner of the model can act on it.
[[noreturn]] void refuse_failure(const std::string& file, const at::Tensor& sample,
                                 const std::exception& error) {
  throw UserError(Problem{file, "forward()", cause_of(error),
                          "a model that takes images of shape " + shape_text(sample.sizes()), ""});
}

[[noreturn]] void refuse_unloadable(const std::filesystem::path& file, const std::exception& error) {
  const std::string cause = cause_of(error);
  const bool unknown = cause.rfind("operator ", 0) == 0;
  throw UserError(Problem{file.string(), "", cause,
                          unknown ? "operators of PyTorch alone" : "a TorchScript file with a forward()",
                          unknown ? "export the model in operators of PyTorch alone"
                                  : "torch.jit.save(torch.jit.script(model), FILE), or scripts/export"});
}

}  // namespace

torch::jit::Module load_script(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) {
    throw UserError(Problem{file.string(), "", "no such file", "a TorchScript model", "scripts/export"});
  }
  if (const auto problem = problem_with_model_file(file)) throw UserError(*problem);
  try {
    refuse_dangerous_text(file);
    torch::jit::Module module = load_whole(file);
    module.eval();
    module.get_method("forward");
    return module;
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    refuse_unloadable(file, error);
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
  refuse_operators(module, file.string());
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
  const at::Tensor images = sample.to(implementation->dtype);
  import_graph(*implementation, images);
  // A trace with a baked batch size runs in TorchScript with that size only.
  const int64_t baked = implementation->report.baked_batch;
  const at::Tensor probe = baked > 0 ? repeated(images, baked) : images;
  implementation->probe = probe;
  implementation->file = file.string();
  c10::IValue output;
  try {
    torch::jit::Module copy = module.deepcopy();
    output = run_script(copy, probe.clone());
  } catch (const c10::Error& error) {
    refuse_failure(file.string(), sample, error);
  } catch (const std::runtime_error& error) {
    refuse_failure(file.string(), sample, error);
  }
  refuse_output(output, probe.size(0), file.string());
  implementation->classes = output.toTensor().size(1);
  verify_import(*implementation, probe, output.toTensor());
  return Network(std::move(implementation));
}

}  // namespace harness

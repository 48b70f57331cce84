#include "harness/model/script_checks.hpp"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <array>
#include <regex>
#include <sstream>

#include "harness/core/error.hpp"
#include "harness/model/jit_nodes.hpp"

namespace harness {
namespace {

// Operators that write or read files, or talk to other processes; and whole families of the latter.
constexpr std::array<std::string_view, 3> kDangerous = {"aten::from_file", "aten::save",
                                                        "debugprims::load_tensor"};
constexpr std::array<std::string_view, 5> kDangerousFamilies = {"prim::rpc_", "c10d::", "_c10d_functional",
                                                                "symm_mem::", "rpc::"};

bool is_dangerous(std::string_view name) {
  return std::find(kDangerous.begin(), kDangerous.end(), name) != kDangerous.end() ||
         std::any_of(kDangerousFamilies.begin(), kDangerousFamilies.end(),
                     [&](std::string_view family) { return name.starts_with(family); });
}

[[noreturn]] void refuse_dangerous(const std::string& file, const std::string& name) {
  throw UserError(Problem{file, name, "an operator that reaches files or other processes",
                          "a graph that computes and nothing else", "export the model without it"});
}

// What serialised source text names of them: torch.save, ops.aten.from_file; or getattr(torch, ...), which
// could name any.
std::string dangerous_in_text(const std::string& text) {
  static const std::regex pattern(
      R"((^|[^\w.])((torch|ops\s*\.\s*aten)\s*\.\s*(save|from_file)\b|getattr\s*\(\s*(torch|ops)\s*[,.])"
      R"(|ops\s*\.\s*(c10d|_c10d_functional|symm_mem|debugprims|rpc)\b))");
  constexpr std::array kHints = {"save", "from_file", "getattr", "c10d", "symm_mem", "debugprims", "rpc"};
  const auto hinted = [&](const char* hint) { return text.find(hint) != std::string::npos; };
  if (std::none_of(kHints.begin(), kHints.end(), hinted)) return "";  // the usual case, without the pattern
  std::smatch found;
  return std::regex_search(text, found, pattern) ? found[2].str() : "";
}

}  // namespace

void refuse_dangerous_text(const std::filesystem::path& file) {
  caffe2::serialize::PyTorchStreamReader reader(file.string());
  for (const std::string& name : reader.getAllRecords()) {
    if (name.rfind("code/", 0) != 0 || !name.ends_with(".py")) continue;
    const auto [data, size] = reader.getRecord(name);
    const std::string found = dangerous_in_text({static_cast<const char*>(data.get()), size});
    if (!found.empty()) refuse_dangerous(file.string(), found);
  }
}

void refuse_operators(const torch::jit::Module& module, const std::string& file) {
  const auto look = [&](const torch::jit::Method& method, bool computes) {
    auto graph = method.graph()->copy();
    torch::jit::Inline(*graph);
    torch::jit::DepthFirstGraphNodeIterator nodes(graph);
    while (const torch::jit::Node* node = nodes.next()) {
      const std::string name = node->kind().toQualString();
      if (is_dangerous(name)) refuse_dangerous(file, name);
      if (computes && name.starts_with("quantized::")) {
        throw UserError(Problem{file, name, "a quantised model", "float32 weights",
                                "export the model before it is quantised"});
      }
    }
  };
  // With all that it calls. Parts have other methods that loading or copying may run (__setstate__).
  look(module.get_method("forward"), true);
  for (const torch::jit::Module& part : module.modules()) {
    for (const torch::jit::Method& method : part.get_methods()) {
      if (method.name() != "forward") look(method, false);
    }
  }
}

void refuse_number_types(const torch::jit::Module& module, const std::string& file) {
  for (const auto& item : module.named_parameters()) {
    const auto type = item.value.scalar_type();
    if (type == at::kHalf || type == at::kBFloat16) {
      throw UserError(Problem{file, item.name, std::string("half precision (") + toString(type) + ")",
                              "float32", "export the model after model.float()"});
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

std::string shape_text(c10::IntArrayRef sizes) {
  std::ostringstream out;
  out << sizes;
  return out.str();
}

}  // namespace harness

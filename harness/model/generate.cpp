#include <ATen/ATen.h>

#include <sstream>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/model/implementation.hpp"

namespace harness {
namespace {

std::string list(const std::vector<int64_t>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(values[i]);
  return out + "]";
}

std::string boolean(bool value) {
  return value ? "True" : "False";
}

// A float literal: an integer one would make TorchScript pick another overload.
std::string real(double value) {
  const std::string text = format_number(value);
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

// "a.0.weight" as TorchScript text; numbers are no attribute names, getattr() takes them.
std::string attribute(const std::string& name) {
  std::string text = "self";
  std::istringstream parts(name);
  for (std::string part; std::getline(parts, part, '.');) text = "getattr(" + text + ", \"" + part + "\")";
  return text;
}

class Writer {
 public:
  explicit Writer(const Network::Implementation& network) : network_(network) {}
  std::string forward() const {
    std::string text = "def forward(self, v0: Tensor) -> Tensor:\n";
    for (size_t i = 1; i < network_.nodes.size(); ++i) {
      text += "  v" + std::to_string(i) + " = " + expression(network_.nodes[i]) + "\n";
    }
    return text + "  return v" + std::to_string(network_.output) + "\n";
  }

 private:
  static std::string value(NodeId id) { return "v" + std::to_string(id); }
  std::string parameter(const Node& node, size_t role) const {
    const ParameterId id = node.parameters.at(role);
    if (id < 0) return "None";
    const std::string text = attribute(network_.parameters[id].name);
    return network_.transposed.count(id) > 0 ? "torch.t(" + text + ")" : text;
  }

  std::string call(const Node& node, const std::string& function, const std::string& rest) const {
    return "torch." + function + "(" + value(node.inputs[0]) + (rest.empty() ? "" : ", " + rest) + ")";
  }

  std::string pool(const Node& node) const {
    const auto& a = std::get<PoolAttributes>(node.attributes);
    const std::string rank = std::to_string(a.kernel.size()) + "d";
    const std::string window = list(a.kernel) + ", " + list(a.stride) + ", " + list(a.padding) + ", ";
    if (node.kind == NodeKind::max_pool) {
      return call(node, "max_pool" + rank, window + list(a.dilation) + ", " + boolean(a.ceil_mode));
    }
    std::string rest = window + boolean(a.ceil_mode) + ", " + boolean(a.count_include_pad);
    if (a.divisor) rest += ", " + std::to_string(*a.divisor);
    return call(node, "avg_pool" + rank, rest);
  }

  std::string arithmetic(const Node& node) const {
    const auto& a = std::get<ArithmeticAttributes>(node.attributes);
    std::string left = value(node.inputs[0]);
    std::string right = node.inputs.size() > 1     ? value(node.inputs[1])
                        : !node.parameters.empty() ? parameter(node, 0)
                                                   : real(a.scalar);
    const bool scalar = node.inputs.size() == 1 && node.parameters.empty();
    if (node.kind == NodeKind::sub && a.reversed && scalar) return "torch.rsub(" + left + ", " + right + ")";
    if (node.kind == NodeKind::div && a.reversed && scalar) return right + " / " + left;
    if (a.reversed) std::swap(left, right);
    const std::string alpha = a.alpha == 1 ? "" : ", alpha=" + real(a.alpha);
    return std::string("torch.") + to_text(node.kind) + "(" + left + ", " + right + alpha + ")";
  }

  std::string activation(const Node& node) const {
    const auto* a = std::get_if<ActivationAttributes>(&node.attributes);
    switch (node.kind) {
      case NodeKind::relu6:
        return call(node, "hardtanh", "0.0, 6.0");
      case NodeKind::leaky_relu:
        return call(node, "leaky_relu", real(a->a));
      case NodeKind::elu:
        return call(node, "elu", real(a->a) + ", " + real(a->b));
      case NodeKind::hardtanh:
        return call(node, "hardtanh", real(a->a) + ", " + real(a->b));
      case NodeKind::gelu:
        return call(node, "gelu", a->tanh_form ? "approximate=\"tanh\"" : "");
      default:
        return call(node, to_text(node.kind), "");
    }
  }

  std::string reshape(const Node& node) const {
    std::string sizes = "[" + value(node.inputs[0]) + ".size(0)";
    for (const int64_t size : std::get<ReshapeAttributes>(node.attributes).sizes)
      sizes += ", " + std::to_string(size);
    return call(node, "reshape", sizes + "]");
  }

  std::string slice(const Node& node) const {
    const auto& a = std::get<SliceAttributes>(node.attributes);
    if (a.squeeze) return call(node, "select", std::to_string(a.dim) + ", " + std::to_string(a.begin));
    return call(node, "slice",
                std::to_string(a.dim) + ", " + std::to_string(a.begin) + ", " + std::to_string(a.end) + ", " +
                    std::to_string(a.step));
  }

  std::string concat(const Node& node) const {
    const auto& dims = std::get<DimsAttributes>(node.attributes).dims;
    std::vector<std::string> operands;
    for (const NodeId input : node.inputs) operands.push_back(value(input));
    for (size_t k = 0; k < node.parameters.size(); ++k) {
      const std::vector<int64_t>& shape = network_.nodes[node.inputs[0]].shape;
      const at::Tensor& once = network_.parameters[node.parameters[k]].value;
      std::string sizes = "[" + value(node.inputs[0]) + ".size(0)";
      for (size_t i = 1; i <= shape.size(); ++i) {
        const int64_t dim = dims[0] - (static_cast<int64_t>(shape.size()) + 1 - once.dim());
        const bool along = static_cast<int64_t>(i) == dims[0];
        sizes += ", " + std::to_string(!along ? shape[i - 1] : dim < 0 ? 1 : once.size(dim));
      }
      operands.insert(operands.begin() + dims[k + 1], parameter(node, k) + ".expand(" + sizes + "])");
    }
    std::string values;
    for (const std::string& operand : operands) values += (values.empty() ? "" : ", ") + operand;
    return "torch.cat([" + values + "], " + std::to_string(dims[0]) + ")";
  }

  std::string dimensions(const Node& node, const std::string& function, bool one) const {
    const auto& a = std::get<DimsAttributes>(node.attributes);
    return call(node, function, one ? std::to_string(a.dims[0]) : list(a.dims));
  }

  std::string expression(const Node& node) const {
    const std::string rank = std::to_string(spatial_dimensions(node)) + "d";
    switch (node.kind) {
      case NodeKind::conv: {
        const auto& a = std::get<ConvAttributes>(node.attributes);
        return call(node, "conv" + std::to_string(a.stride.size()) + "d",
                    parameter(node, 0) + ", " + parameter(node, 1) + ", " + list(a.stride) + ", " +
                        list(a.padding) + ", " + list(a.dilation) + ", " + std::to_string(a.groups));
      }
      case NodeKind::linear:
        return call(node, "linear", parameter(node, 0) + ", " + parameter(node, 1));
      case NodeKind::batch_norm: {
        const auto& a = std::get<BatchNormAttributes>(node.attributes);
        return call(node, "batch_norm",
                    parameter(node, 0) + ", " + parameter(node, 1) + ", " + parameter(node, 2) + ", " +
                        parameter(node, 3) + ", self.training, " + real(a.momentum) + ", " + real(a.epsilon) +
                        ", True");
      }
      case NodeKind::softmax:
        return dimensions(node, "softmax", true);
      case NodeKind::log_softmax:
        return dimensions(node, "log_softmax", true);
      case NodeKind::max_pool:
      case NodeKind::avg_pool:
        return pool(node);
      case NodeKind::adaptive_max_pool:
        return dimensions(node, "adaptive_max_pool" + rank, false) + "[0]";
      case NodeKind::adaptive_avg_pool:
        return dimensions(node, "adaptive_avg_pool" + rank, false);
      case NodeKind::mean: {
        const auto& a = std::get<DimsAttributes>(node.attributes);
        return call(node, "mean", list(a.dims) + ", " + boolean(a.keep));
      }
      case NodeKind::add:
      case NodeKind::sub:
      case NodeKind::mul:
      case NodeKind::div:
        return arithmetic(node);
      case NodeKind::concat:
        return concat(node);
      case NodeKind::reshape:
        return reshape(node);
      case NodeKind::permute:
        return dimensions(node, "permute", false);
      case NodeKind::slice:
        return slice(node);
      case NodeKind::pad: {
        const auto& a = std::get<PadAttributes>(node.attributes);
        return call(
            node, "pad",
            list(a.amounts) + ", \"" + a.mode + "\"" + (a.mode == "constant" ? ", " + real(a.value) : ""));
      }
      case NodeKind::dropout: {
        const auto& a = std::get<DropoutAttributes>(node.attributes);
        return call(node, a.per_channel ? "feature_dropout" : "dropout",
                    real(a.probability) + ", self.training");
      }
      default:
        return activation(node);
    }
  }

  const Network::Implementation& network_;
};

// The module that holds the last part of `name`, made on the way where it is missing.
class Tree {
 public:
  explicit Tree(std::shared_ptr<torch::jit::CompilationUnit> unit) : unit_(std::move(unit)) {}

  void put(const std::string& name, const at::Tensor& value, bool trainable) {
    std::vector<std::string> path;
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, '.');) path.push_back(part);
    Folder* folder = &root_;
    for (size_t i = 0; i + 1 < path.size(); ++i) folder = &folder->folders[path[i]];
    folder->tensors[path.back()] = {value, trainable};
  }

  torch::jit::Module build() { return build(root_, "Network"); }

 private:
  struct Folder {
    std::map<std::string, Folder> folders;
    std::map<std::string, std::pair<at::Tensor, bool>> tensors;
  };

  // Children first: a TorchScript class must know its attribute types before it is used as one.
  torch::jit::Module build(const Folder& folder, const std::string& name) {
    torch::jit::Module module(c10::QualifiedName("__torch__." + name), unit_, /*shouldMangle=*/true);
    module.register_attribute("training", c10::BoolType::get(), true);
    for (const auto& [key, entry] : folder.tensors) {
      if (entry.second) {
        module.register_parameter(key, entry.first, /*is_buffer=*/false);
      } else {
        module.register_buffer(key, entry.first);
      }
    }
    for (const auto& [key, child] : folder.folders) module.register_module(key, build(child, "Part"));
    return module;
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  Folder root_;
};

}  // namespace

torch::jit::Module generate_script(const Network::Implementation& implementation) {
  Tree tree(std::make_shared<torch::jit::CompilationUnit>());
  for (size_t id = 0; id < implementation.parameters.size(); ++id) {
    const Parameter& parameter = implementation.parameters[id];
    const at::Tensor value = implementation.stored(static_cast<ParameterId>(id))
                                 .cpu()
                                 .clone(at::MemoryFormat::Contiguous)
                                 .requires_grad_(parameter.trainable);
    tree.put(parameter.name, value, parameter.trainable);
    for (const std::string& alias : parameter.aliases) tree.put(alias, value, parameter.trainable);
  }
  torch::jit::Module module = tree.build();
  module.define(Writer(implementation).forward());
  module.eval();
  return module;
}

}  // namespace harness

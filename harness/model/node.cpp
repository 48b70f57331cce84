#include "harness/model/node.hpp"

#include "harness/core/files.hpp"

namespace harness {
namespace {

std::string text(bool value) {
  return value ? "true" : "false";
}
std::string text(int64_t value) {
  return std::to_string(value);
}
std::string text(double value) {
  return format_number(value);
}
std::string text(const std::string& value) {
  return value;
}
std::string text(const std::vector<int64_t>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(values[i]);
  return out + "]";
}

template <typename Value, typename... Rest>
std::string fields(const char* name, const Value& value, const Rest&... rest) {
  std::string out = std::string(name) + "=" + text(value);
  if constexpr (sizeof...(rest) > 0) out += " " + fields(rest...);
  return out;
}

struct AttributesText {
  std::string operator()(const NoAttributes&) const { return ""; }
  std::string operator()(const ConvAttributes& a) const {
    return fields("stride", a.stride, "padding", a.padding, "dilation", a.dilation, "groups", a.groups);
  }
  std::string operator()(const BatchNormAttributes& a) const {
    return fields("epsilon", a.epsilon, "momentum", a.momentum);
  }
  std::string operator()(const ActivationAttributes& a) const {
    return fields("a", a.a, "b", a.b, "tanh_form", a.tanh_form);
  }
  std::string operator()(const DimsAttributes& a) const { return fields("dims", a.dims, "keep", a.keep); }
  std::string operator()(const PoolAttributes& a) const {
    return fields("kernel", a.kernel, "stride", a.stride, "padding", a.padding, "dilation", a.dilation,
                  "ceil_mode", a.ceil_mode, "count_include_pad", a.count_include_pad, "divisor",
                  a.divisor.value_or(0));
  }
  std::string operator()(const ArithmeticAttributes& a) const {
    return fields("scalar", a.scalar, "alpha", a.alpha, "reversed", a.reversed);
  }
  std::string operator()(const ReshapeAttributes& a) const { return fields("sizes", a.sizes); }
  std::string operator()(const SliceAttributes& a) const {
    return fields("dim", a.dim, "begin", a.begin, "end", a.end, "step", a.step, "squeeze", a.squeeze);
  }
  std::string operator()(const PadAttributes& a) const {
    return fields("amounts", a.amounts, "mode", a.mode, "value", a.value);
  }
  std::string operator()(const DropoutAttributes& a) const {
    return fields("probability", a.probability, "per_channel", a.per_channel);
  }
};

}  // namespace

std::string attributes_text(const Node& node) {
  return std::visit(AttributesText{}, node.attributes);
}

const char* to_text(NodeKind kind) {
  switch (kind) {
    case NodeKind::input:
      return "input";
    case NodeKind::conv:
      return "conv";
    case NodeKind::linear:
      return "linear";
    case NodeKind::batch_norm:
      return "batch_norm";
    case NodeKind::relu:
      return "relu";
    case NodeKind::relu6:
      return "relu6";
    case NodeKind::leaky_relu:
      return "leaky_relu";
    case NodeKind::elu:
      return "elu";
    case NodeKind::silu:
      return "silu";
    case NodeKind::gelu:
      return "gelu";
    case NodeKind::sigmoid:
      return "sigmoid";
    case NodeKind::tanh:
      return "tanh";
    case NodeKind::hardtanh:
      return "hardtanh";
    case NodeKind::hardsigmoid:
      return "hardsigmoid";
    case NodeKind::hardswish:
      return "hardswish";
    case NodeKind::softmax:
      return "softmax";
    case NodeKind::log_softmax:
      return "log_softmax";
    case NodeKind::max_pool:
      return "max_pool";
    case NodeKind::avg_pool:
      return "avg_pool";
    case NodeKind::adaptive_max_pool:
      return "adaptive_max_pool";
    case NodeKind::adaptive_avg_pool:
      return "adaptive_avg_pool";
    case NodeKind::mean:
      return "mean";
    case NodeKind::add:
      return "add";
    case NodeKind::sub:
      return "sub";
    case NodeKind::mul:
      return "mul";
    case NodeKind::div:
      return "div";
    case NodeKind::concat:
      return "concat";
    case NodeKind::reshape:
      return "reshape";
    case NodeKind::permute:
      return "permute";
    case NodeKind::slice:
      return "slice";
    case NodeKind::pad:
      return "pad";
    case NodeKind::dropout:
      return "dropout";
  }
  return "unknown";
}

bool is_activation(NodeKind kind) {
  return kind >= NodeKind::relu && kind <= NodeKind::hardswish;
}

}  // namespace harness

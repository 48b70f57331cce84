#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace harness {

using NodeId = int32_t;       // position in Network::nodes(); inputs always have smaller ids
using ParameterId = int32_t;  // position in Network::parameters(); -1 = absent

enum class NodeKind : uint8_t {
  input,
  conv,        // ConvAttributes; parameters weight, bias
  linear,      // parameters weight (out,in), bias
  batch_norm,  // BatchNormAttributes; parameters weight, bias, running mean, running variance
  relu,
  relu6,
  leaky_relu,
  elu,
  silu,
  gelu,
  sigmoid,
  tanh,
  hardtanh,
  hardsigmoid,
  hardswish,  // ActivationAttributes
  softmax,
  log_softmax,  // DimsAttributes (one)
  max_pool,
  avg_pool,  // PoolAttributes
  adaptive_max_pool,
  adaptive_avg_pool,  // DimsAttributes: output size
  mean,               // DimsAttributes, keep
  add,
  sub,
  mul,
  div,  // two nodes, or one and a constant: ArithmeticAttributes
  // DimsAttributes: the dimension, then the place of each parameter among the operands. The inputs take the
  // other places in their order; a parameter (a class token, zeros) is repeated for every image.
  concat,
  reshape,  // ReshapeAttributes; every flatten and view
  permute,  // DimsAttributes
  slice,    // SliceAttributes; also select (squeeze)
  pad,      // PadAttributes
  dropout,  // DropoutAttributes; nothing outside training
};
const char* to_text(NodeKind kind);
bool is_activation(NodeKind kind);  // the ReLU family, sigmoid and tanh included

struct NoAttributes {
  bool operator==(const NoAttributes&) const = default;
};
struct ConvAttributes {
  std::vector<int64_t> stride, padding, dilation;  // one per spatial dimension
  int64_t groups = 1;
  bool operator==(const ConvAttributes&) const = default;
};
struct BatchNormAttributes {
  double epsilon = 1e-5;
  double momentum = 0.1;
  bool operator==(const BatchNormAttributes&) const = default;
};
struct ActivationAttributes {
  double a = 0, b = 0;     // leaky: slope; elu: alpha, scale; hardtanh: low, high
  bool tanh_form = false;  // gelu
  bool operator==(const ActivationAttributes&) const = default;
};
struct DimsAttributes {
  std::vector<int64_t> dims;  // batch is dimension 0; never negative
  bool keep = false;
  bool operator==(const DimsAttributes&) const = default;
};
struct PoolAttributes {
  std::vector<int64_t> kernel, stride, padding, dilation;
  bool ceil_mode = false, count_include_pad = true;
  std::optional<int64_t> divisor;
  bool operator==(const PoolAttributes&) const = default;
};
struct ArithmeticAttributes {
  double scalar = 0;      // operand where there is neither a second node nor a constant parameter
  double alpha = 1;       // of add and sub
  bool reversed = false;  // scalar or constant on the left: c - x, c / x
  bool operator==(const ArithmeticAttributes&) const = default;
};
struct ReshapeAttributes {
  std::vector<int64_t> sizes;  // without the batch dimension, which always stays the first
  bool operator==(const ReshapeAttributes&) const = default;
};
struct SliceAttributes {
  int64_t dim = 1, begin = 0, end = 0, step = 1;
  bool squeeze = false;  // select: the dimension goes
  bool operator==(const SliceAttributes&) const = default;
};
struct PadAttributes {
  std::vector<int64_t> amounts;  // as torch.nn.functional.pad
  std::string mode = "constant";
  double value = 0;
  bool operator==(const PadAttributes&) const = default;
};
struct DropoutAttributes {
  double probability = 0.5;
  bool per_channel = false;  // dropout2d
  bool operator==(const DropoutAttributes&) const = default;
};
using Attributes = std::variant<NoAttributes, ConvAttributes, BatchNormAttributes, ActivationAttributes,
                                DimsAttributes, PoolAttributes, ArithmeticAttributes, ReshapeAttributes,
                                SliceAttributes, PadAttributes, DropoutAttributes>;

// One tensor operation of the recorded execution.
struct Node {
  NodeKind kind = NodeKind::input;
  std::string name;  // unique: module path of its parameters ("features.0"), else kind and number ("relu_3")
  std::vector<NodeId> inputs;
  std::vector<ParameterId> parameters;  // by role as listed at NodeKind
  Attributes attributes;
  std::vector<int64_t> shape;  // of the output without the batch dimension
};

// "stride=[1, 1] padding=[0, 0] dilation=[1, 1] groups=1"; empty where there are no attributes.
std::string attributes_text(const Node& node);

}  // namespace harness

#include <ATen/ATen.h>

#include <array>
#include <unordered_map>

#include "harness/model/operators.hpp"

namespace harness {
namespace operators {
namespace {

// Attribute lists in TorchScript may hold one value for all dimensions.
std::vector<int64_t> spread(std::vector<int64_t> values, size_t count) {
  if (values.size() == 1) values.resize(count, values[0]);
  return values;
}

void conv(Recorder& recorder, Call& call) {
  const at::Tensor x = call["input"].toTensor(), weight = call["weight"].toTensor();
  const auto spatial = static_cast<size_t>(weight.dim()) - 2;
  if (call.has("transposed") && call["transposed"].toBool())
    recorder.stop(call.name(), "transposed convolution");
  ConvAttributes a;
  a.stride = spread(call.integers("stride"), spatial);
  a.dilation = spread(call.integers("dilation"), spatial);
  a.groups = call["groups"].toInt();
  NodeId input = recorder.node_of(call["input"]);
  if (!call["padding"].isString()) {
    a.padding = spread(call.integers("padding"), spatial);
  } else if (call["padding"].toStringRef() == "valid") {
    a.padding.assign(spatial, 0);
  } else {
    // "same": what is odd goes to the right, as a pad node of its own where the two sides differ.
    std::vector<int64_t> amounts(2 * spatial, 0);
    bool symmetric = true;
    for (size_t i = 0; i < spatial; ++i) {
      const int64_t total = a.dilation[i] * (weight.size(static_cast<int64_t>(i) + 2) - 1);
      amounts[2 * (spatial - 1 - i)] = total / 2;
      amounts[2 * (spatial - 1 - i) + 1] = total - total / 2;
      symmetric = symmetric && total % 2 == 0;
      a.padding.push_back(total / 2);
    }
    if (!symmetric) {
      a.padding.assign(spatial, 0);
      c10::IValue padded = at::constant_pad_nd(x, amounts, 0);
      input = recorder.emit(make(NodeKind::pad, {input}, PadAttributes{amounts, "constant", 0}), padded);
    }
  }
  const ParameterId weight_id = recorder.parameter_of(call["weight"]);
  emit(recorder, call, make(NodeKind::conv, {input}, a, {weight_id, recorder.parameter_of(call["bias"])}));
}

void linear(Recorder& recorder, Call& call) {
  const ParameterId weight = recorder.weight_of(call["weight"]);
  emit(recorder, call,
       make(NodeKind::linear, {recorder.node_of(call["input"])}, NoAttributes{},
            {weight, recorder.parameter_of(call["bias"])}));
}

// A bias is one number for each output, whatever the product's shape.
void refuse_other_bias(Recorder& recorder, const Call& call, const c10::IValue& bias) {
  if (bias.isTensor() && bias.toTensor().dim() != 1)
    recorder.stop(call.name(), "adds something else than a bias");
}

void addmm(Recorder& recorder, Call& call) {
  if (!call["mat2"].isTensor() || recorder.tracked(call["mat2"]) || call.number("alpha") != 1 ||
      call.number("beta") != 1) {
    recorder.stop(call.name(), "not of the form bias + x * weight");
  }
  refuse_other_bias(recorder, call, call["self"]);
  const NodeId input = recorder.node_of(call["mat1"]);
  const ParameterId weight = recorder.transposed_weight(call["mat2"]);
  emit(recorder, call,
       make(NodeKind::linear, {input}, NoAttributes{}, {weight, recorder.parameter_of(call["self"])}));
}

void matmul(Recorder& recorder, Call& call) {
  const c10::IValue& right = call.has("other") ? call["other"] : call["mat2"];
  if (recorder.tracked(right) || right.toTensor().dim() != 2) {
    recorder.stop(call.name(), "not of the form x * weight");
  }
  const NodeId input = recorder.node_of(call["self"]);
  emit(recorder, call,
       make(NodeKind::linear, {input}, NoAttributes{}, {recorder.transposed_weight(right), -1}));
}

void batch_norm(Recorder& recorder, Call& call) {
  if (call["running_mean"].isNone() || !call["running_mean"].toTensor().defined()) {
    recorder.stop(call.name(),
                  "batch norm without running averages works across the images of a batch; train it as "
                  "nn.BatchNorm2d with track_running_stats=True, and call model.eval() before tracing");
  }
  recorder.note_training(call, call["training"].toBool());
  BatchNormAttributes a;
  a.epsilon = call.number("eps");
  a.momentum = call.number("momentum");
  std::vector<ParameterId> ids;
  for (const char* role : {"weight", "bias", "running_mean", "running_var"}) {
    ids.push_back(recorder.parameter_of(call[role]));
  }
  emit(recorder, call, make(NodeKind::batch_norm, {recorder.node_of(call["input"])}, a, ids));
}

template <NodeKind kind>
void plain_activation(Recorder& recorder, Call& call) {
  emit(recorder, call, make(kind, {recorder.node_of(call["self"])}));
}

void activation(Recorder& recorder, Call& call, NodeKind kind, ActivationAttributes a) {
  emit(recorder, call, make(kind, {recorder.node_of(call["self"])}, a));
}

void leaky_relu(Recorder& recorder, Call& call) {
  activation(recorder, call, NodeKind::leaky_relu, {call.number("negative_slope")});
}

void elu(Recorder& recorder, Call& call) {
  if (call.number("input_scale") != 1) recorder.stop(call.name(), "input_scale other than 1");
  activation(recorder, call, NodeKind::elu, {call.number("alpha"), call.number("scale")});
}

void selu(Recorder& recorder, Call& call) {
  activation(recorder, call, NodeKind::elu,
             {1.6732632423543772848170429916717, 1.0507009873554804934193349852946});
}

void gelu(Recorder& recorder, Call& call) {
  activation(recorder, call, NodeKind::gelu, {0, 0, call["approximate"].toStringRef() == "tanh"});
}

// ReLU6 comes as relu6, hardtanh(0, 6) or clamp(0, 6): one kind for all three.
void bounded(Recorder& recorder, Call& call, double low, double high) {
  if (low == 0 && high == 6) return activation(recorder, call, NodeKind::relu6, {0, 6});
  activation(recorder, call, NodeKind::hardtanh, {low, high});
}

void hardtanh(Recorder& recorder, Call& call) {
  bounded(recorder, call, call.number("min_val"), call.number("max_val"));
}

void clamp(Recorder& recorder, Call& call) {
  if (call["min"].isNone() || call["min"].isTensor())
    recorder.stop(call.name(), "not a clamp between two numbers");
  if (call["max"].isNone()) {
    if (call.number("min") != 0) recorder.stop(call.name(), "a lower bound other than 0 alone");
    return plain_activation<NodeKind::relu>(recorder, call);
  }
  bounded(recorder, call, call.number("min"), call.number("max"));
}

template <NodeKind kind>
void softmax(Recorder& recorder, Call& call) {
  const int64_t dim = dimension(recorder, call, call["dim"].toInt(), rank_of(call["self"]));
  emit(recorder, call, make(kind, {recorder.node_of(call["self"])}, DimsAttributes{{dim}, false}));
}

template <NodeKind kind>
void pool(Recorder& recorder, Call& call) {
  PoolAttributes a;
  const auto spatial = static_cast<size_t>(rank_of(call["self"])) - 2;
  a.kernel = spread(call.integers("kernel_size"), spatial);
  a.stride = spread(call.integers("stride"), spatial);
  if (a.stride.empty()) a.stride = a.kernel;
  a.padding = spread(call.integers("padding"), spatial);
  a.dilation =
      call.has("dilation") ? spread(call.integers("dilation"), spatial) : std::vector<int64_t>(spatial, 1);
  a.ceil_mode = call["ceil_mode"].toBool();
  if (call.has("count_include_pad")) a.count_include_pad = call["count_include_pad"].toBool();
  if (call.has("divisor_override") && !call["divisor_override"].isNone())
    a.divisor = call["divisor_override"].toInt();
  emit(recorder, call, make(kind, {recorder.node_of(call["self"])}, a));
}

template <NodeKind kind>
void adaptive_pool(Recorder& recorder, Call& call) {
  // The output size as it came out: a request may leave dimensions open.
  const auto shape = call.outputs.at(0).toTensor().sizes();
  emit(recorder, call,
       make(kind, {recorder.node_of(call["self"])}, DimsAttributes{shape.slice(2).vec(), false}));
}

void mean(Recorder& recorder, Call& call) {
  DimsAttributes a;
  for (const int64_t dim : call.integers("dim"))
    a.dims.push_back(dimension(recorder, call, dim, rank_of(call["self"])));
  if (a.dims.empty()) recorder.stop(call.name(), "works across the images of a batch");
  std::sort(a.dims.begin(), a.dims.end());
  a.keep = call["keepdim"].toBool();
  emit(recorder, call, make(NodeKind::mean, {recorder.node_of(call["self"])}, a));
}

template <NodeKind kind>
void arithmetic(Recorder& recorder, Call& call) {
  ArithmeticAttributes a;
  if (call.has("alpha")) a.alpha = call.number("alpha");
  if (call.has("rounding_mode") && !call["rounding_mode"].isNone())
    recorder.stop(call.name(), "rounded division");
  const c10::IValue left = call["self"], right = call["other"];
  if (recorder.tracked(left) && recorder.tracked(right)) {
    return emit(recorder, call, make(kind, {recorder.node_of(left), recorder.node_of(right)}, a));
  }
  a.reversed = !recorder.tracked(left);
  const c10::IValue& constant = a.reversed ? left : right;
  const at::Tensor partner = (a.reversed ? right : left).toTensor();
  std::vector<ParameterId> parameters;
  if (!constant.isTensor()) {
    a.scalar = constant.toScalar().toDouble();
  } else if (constant.toTensor().dim() > 0) {
    parameters.push_back(recorder.operand(constant, partner));
  } else if (const auto number = recorder.number_in(constant.toTensor())) {
    a.scalar = *number;
  } else {
    parameters.push_back(recorder.parameter_of(constant));
  }
  if (a.reversed && (kind == NodeKind::add || kind == NodeKind::mul) && a.alpha == 1) a.reversed = false;
  emit(recorder, call, make(kind, {recorder.node_of(recorder.tracked(left) ? left : right)}, a, parameters));
}

void reversed_subtract(Recorder& recorder, Call& call) {
  if (call.number("alpha") != 1 || call["other"].isTensor()) recorder.stop(call.name(), "not number - x");
  ArithmeticAttributes a;
  a.scalar = call.number("other");
  a.reversed = true;
  emit(recorder, call, make(NodeKind::sub, {recorder.node_of(call["self"])}, a));
}

void negate(Recorder& recorder, Call& call) {
  ArithmeticAttributes a;
  a.scalar = -1;
  emit(recorder, call, make(NodeKind::mul, {recorder.node_of(call["self"])}, a));
}

// TorchScript writes number / x as number * reciprocal(x).
void reciprocal(Recorder& recorder, Call& call) {
  ArithmeticAttributes a;
  a.scalar = 1;
  a.reversed = true;
  emit(recorder, call, make(NodeKind::div, {recorder.node_of(call["self"])}, a));
}

void dropout(Recorder& recorder, Call& call) {
  recorder.note_training(call, call["train"].toBool());
  DropoutAttributes a;
  a.probability = call.number("p");
  a.per_channel = call.name() == "aten::feature_dropout";
  const NodeId input = recorder.node_of(call.in_place() ? call["self"] : call["input"]);
  recorder.emit(make(NodeKind::dropout, {input}, a), call.outputs.at(0), call.in_place());
}

// Copies, layouts and conversions that change no value.
void identity(Recorder& recorder, Call& call) {
  const c10::IValue input = call.arguments().at(0);
  if (call.outputs[0].toTensor().scalar_type() != input.toTensor().scalar_type()) {
    recorder.stop(call.name(), "changes the number type inside the model");
  }
  recorder.alias(call.outputs[0], recorder.node_of(input));
}

using Recognise = void (*)(Recorder&, Call&);

const std::unordered_map<std::string, Recognise>& table() {
  static const std::unordered_map<std::string, Recognise> entries = {
      {"aten::conv1d", conv},
      {"aten::conv2d", conv},
      {"aten::conv3d", conv},
      {"aten::convolution", conv},
      {"aten::_convolution", conv},
      {"aten::_convolution_mode", conv},
      {"aten::linear", linear},
      {"aten::addmm", addmm},
      {"aten::matmul", matmul},
      {"aten::mm", matmul},
      {"aten::batch_norm", batch_norm},
      {"aten::relu", plain_activation<NodeKind::relu>},
      {"aten::relu6", [](Recorder& recorder, Call& call) { bounded(recorder, call, 0, 6); }},
      {"aten::silu", plain_activation<NodeKind::silu>},
      {"aten::sigmoid", plain_activation<NodeKind::sigmoid>},
      {"aten::tanh", plain_activation<NodeKind::tanh>},
      {"aten::hardsigmoid", plain_activation<NodeKind::hardsigmoid>},
      {"aten::hardswish", plain_activation<NodeKind::hardswish>},
      {"aten::leaky_relu", leaky_relu},
      {"aten::elu", elu},
      {"aten::selu", selu},
      {"aten::gelu", gelu},
      {"aten::hardtanh", hardtanh},
      {"aten::clamp", clamp},
      {"aten::softmax", softmax<NodeKind::softmax>},
      {"aten::log_softmax", softmax<NodeKind::log_softmax>},
      {"aten::max_pool1d", pool<NodeKind::max_pool>},
      {"aten::max_pool2d", pool<NodeKind::max_pool>},
      {"aten::max_pool3d", pool<NodeKind::max_pool>},
      {"aten::avg_pool1d", pool<NodeKind::avg_pool>},
      {"aten::avg_pool2d", pool<NodeKind::avg_pool>},
      {"aten::avg_pool3d", pool<NodeKind::avg_pool>},
      {"aten::adaptive_avg_pool1d", adaptive_pool<NodeKind::adaptive_avg_pool>},
      {"aten::adaptive_avg_pool2d", adaptive_pool<NodeKind::adaptive_avg_pool>},
      {"aten::adaptive_avg_pool3d", adaptive_pool<NodeKind::adaptive_avg_pool>},
      {"aten::adaptive_max_pool1d", adaptive_pool<NodeKind::adaptive_max_pool>},
      {"aten::adaptive_max_pool2d", adaptive_pool<NodeKind::adaptive_max_pool>},
      {"aten::adaptive_max_pool3d", adaptive_pool<NodeKind::adaptive_max_pool>},
      {"aten::mean", mean},
      {"aten::add", arithmetic<NodeKind::add>},
      {"aten::sub", arithmetic<NodeKind::sub>},
      {"aten::mul", arithmetic<NodeKind::mul>},
      {"aten::div", arithmetic<NodeKind::div>},
      {"aten::rsub", reversed_subtract},
      {"aten::neg", negate},
      {"aten::reciprocal", reciprocal},
      {"aten::cat", concat},
      {"aten::concat", concat},
      {"aten::flatten", reshape},
      {"aten::squeeze", reshape},
      {"aten::unsqueeze", reshape},
      {"aten::unflatten", reshape},
      {"aten::view", view},
      {"aten::reshape", view},
      {"aten::permute", permute},
      {"aten::transpose", permute},
      {"aten::slice", slice},
      {"aten::narrow", narrow},
      {"aten::select", select},
      {"aten::chunk", split},
      {"aten::split", split},
      {"aten::split_with_sizes", split},
      {"aten::unbind", split},
      {"aten::pad", pad},
      {"aten::constant_pad_nd", pad},
      {"aten::reflection_pad2d", pad},
      {"aten::replication_pad2d", pad},
      {"aten::dropout", dropout},
      {"aten::feature_dropout", dropout},
      {"aten::contiguous", identity},
      {"aten::detach", identity},
      {"aten::clone", identity},
      {"aten::alias", identity},
      {"aten::to", identity},
      {"aten::type_as", identity},
      {"aten::float", identity},
  };
  return entries;
}

constexpr std::array kShapeQueries = {
    "aten::size",         "aten::dim",          "aten::len",           "aten::numel",
    "aten::stride",       "aten::get_device",   "aten::element_size",  "aten::is_floating_point",
    "aten::is_complex",   "aten::is_same_size", "aten::is_contiguous", "aten::__is__",
    "aten::__isnot__",    "prim::device",       "prim::dtype",         "prim::layout",
    "prim::ndim",         "prim::is_cuda",      "prim::is_cpu",        "prim::is_meta",
    "prim::is_nested",    "prim::is_sparse",    "prim::is_quantized",  "prim::is_mkldnn",
    "prim::requires_grad"};
constexpr std::array kFilled = {"aten::zeros_like", "aten::ones_like", "aten::full_like",
                                "aten::new_zeros",  "aten::new_ones",  "aten::new_full"};
constexpr std::array kShapedByOther = {"aten::expand_as", "aten::view_as", "aten::type_as", "aten::to"};
constexpr std::array kMessages = {"aten::format", "aten::warn", "prim::Print", "aten::percentFormat"};
constexpr std::array kListOperators = {"aten::append", "aten::__getitem__", "aten::_set_item", "aten::insert",
                                       "aten::extend", "aten::pop",         "aten::list",      "aten::add",
                                       "aten::slice",  "aten::copy",        "aten::reverse"};

}  // namespace
}  // namespace operators

bool is_shape_query(const std::string& name) {
  return std::find(operators::kShapeQueries.begin(), operators::kShapeQueries.end(), name) !=
         operators::kShapeQueries.end();
}

bool is_filled(const std::string& name) {
  return std::find(operators::kFilled.begin(), operators::kFilled.end(), name) != operators::kFilled.end();
}

bool ignores_values(const Recorder& recorder, const Call& call) {
  return is_filled(call.name()) ||
         (std::find(operators::kShapedByOther.begin(), operators::kShapedByOther.end(), call.name()) !=
              operators::kShapedByOther.end() &&
          !recorder.tracked(call.arguments().at(0)));
}

bool is_message(const std::string& name) {
  return std::find(operators::kMessages.begin(), operators::kMessages.end(), name) !=
         operators::kMessages.end();
}

bool is_list_operator(const Call& call) {
  return call.arguments().at(0).isList() &&
         std::find(operators::kListOperators.begin(), operators::kListOperators.end(), call.name()) !=
             operators::kListOperators.end();
}

bool recognise(Recorder& recorder, Call& call) {
  const auto entry = operators::table().find(call.name());
  if (entry == operators::table().end()) return false;
  entry->second(recorder, call);
  return true;
}

}  // namespace harness

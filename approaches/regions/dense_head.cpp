#include "approaches/regions/dense_head.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/model/graph.hpp"

namespace harness::regions {
namespace {

bool is_piecewise_linear(NodeKind kind) {
  return kind == NodeKind::linear || kind == NodeKind::batch_norm || kind == NodeKind::dropout ||
         kind == NodeKind::relu || kind == NodeKind::leaky_relu;
}

// The nodes between the features and the logits, in order; the first one's input has the features.
std::variant<std::vector<NodeId>, Refusal> chain(const Network& network) {
  const std::vector<Node>& nodes = network.nodes();
  std::vector<NodeId> ids;
  for (NodeId id = network.logits_node(); id > 0; id = nodes[id].inputs[0]) {
    const Node& node = nodes[id];
    const bool vectors = node.shape.size() == 1 && nodes[node.inputs.at(0)].shape.size() == 1;
    if (!vectors) break;
    if (is_activation(node.kind) && !is_piecewise_linear(node.kind)) {
      return Refusal{"operator", node.name + " (" + to_text(node.kind) + ") in the dense part, where only " +
                                     "ReLU and leaky ReLU are piecewise linear with two pieces"};
    }
    if (!is_piecewise_linear(node.kind)) break;
    ids.push_back(id);
  }
  std::ranges::reverse(ids);
  return ids;
}

// An affine map that grows layer by layer; undefined: the identity.
class Affine {
 public:
  explicit Affine(int64_t size) : size_(size) {}
  bool identity() const { return !weight_.defined(); }

  void then(const at::Tensor& weight, const at::Tensor& bias) {
    bias_ = identity() ? bias : at::mv(weight, bias_) + bias;
    weight_ = identity() ? weight : at::mm(weight, weight_);
    size_ = bias.size(0);
  }

  DenseLayer take(NodeId value, double slope) {
    if (identity()) then(at::eye(size_, at::kDouble), at::zeros(size_, at::kDouble));
    const DenseLayer layer{weight_, bias_, value, slope};
    weight_.reset();
    bias_.reset();
    return layer;
  }

 private:
  int64_t size_;
  at::Tensor weight_, bias_;
};

void append(const Network& network, const Node& node, Affine& affine) {
  std::vector<at::Tensor> values = graph::constant_values(network, node);
  for (at::Tensor& value : values) {
    if (value.defined()) value = value.cpu().to(at::kDouble);
  }
  if (node.kind == NodeKind::linear) {
    affine.then(values[0], values[1].defined() ? values[1] : at::zeros(values[0].size(0), at::kDouble));
  } else if (node.kind == NodeKind::batch_norm) {
    const auto [factor, addend] = graph::batch_norm_map(node, values);
    affine.then(factor.diag(), addend);
  }
}

}  // namespace

std::variant<DenseHead, Refusal> dense_head(const Network& network) {
  if (!network.importable()) return Refusal{"operator", network.report().unknown_operator};
  const at::NoGradGuard no_grad;
  const std::vector<Node>& nodes = network.nodes();
  const auto found = chain(network);
  if (const Refusal* refusal = std::get_if<Refusal>(&found)) return *refusal;
  const auto& ids = std::get<std::vector<NodeId>>(found);
  const Refusal single{"structure", nodes[network.logits_node()].name +
                                        " computes the logits, and no hidden ReLU dense layer is before it: "
                                        "one linear region, where a patch would change every input"};
  if (ids.empty()) return single;
  DenseHead head;
  head.cut = nodes[ids[0]].inputs[0];
  Affine affine(nodes[head.cut].shape[0]);
  for (const NodeId id : ids) {
    const Node& node = nodes[id];
    const bool activation = is_activation(node.kind);
    if (activation && head.hidden.empty() && affine.identity()) {
      head.cut = id;  // an activation of the features themselves is no layer
    } else if (activation) {
      const auto* a = std::get_if<ActivationAttributes>(&node.attributes);
      head.hidden.push_back(
          affine.take(node.inputs[0], node.kind == NodeKind::leaky_relu && a != nullptr ? a->a : 0));
    } else {
      append(network, node, affine);
    }
  }
  if (head.hidden.empty()) return single;
  head.output = affine.take(network.logits_node(), 1);
  return head;
}

}  // namespace harness::regions

#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "approaches/weights.hpp"

namespace harness::search {

// The part of a network that changes with some of its weights, for inputs whose clean values are known.
//
// Where the first touched node is a convolution or dense layer, its touched channels are their clean values
// and a product of the changes with the inputs that the touched weights meet. They pass alone through all
// that treats channels apart (activations, pooling, batch norm, sums, flatten), and the next layer adds the
// product of their change to its clean output. From there on, or from the first node on that the channels
// cannot pass, everything runs as a whole. Agrees with the changed network to float32 rounding.
//
// Gain over all from the touched node on (build/bench_fast, six weights, one thread, 64 images): LeNet5 1.8
// (first convolution) to 2.8 (first dense layer), ResNet20 1.0 (first), 1.2 (in the middle), 40 (last
// convolution), VGG16 1.1, 2.6 and, in the last hidden layer, 28.
class PartialPass {
 public:
  // `network` must outlive the pass. `narrow` false: all from the first touched node on runs as a whole,
  // which needs the values in front of it alone.
  PartialPass(const Network& network, const std::vector<WeightRef>& weights, bool narrow);

  // Clean values of these nodes, ascending, are what prepare() takes.
  const std::vector<NodeId>& reads() const { return reads_; }
  int64_t values_per_input() const;  // numbers that prepare() keeps
  // From values (n, shape of the node) of reads(): what logits() takes for these inputs.
  std::vector<at::Tensor> prepare(const std::vector<at::Tensor>& clean) const;
  // (n, classes), with `kernels` (overrides()) in place of the network's own.
  at::Tensor logits(const std::vector<at::Tensor>& prepared,
                    const std::map<ParameterId, at::Tensor>& kernels) const;

 private:
  // A clean value, or some channels of it: what prepare() makes.
  struct Need {
    NodeId id = 0;
    at::Tensor channels;  // int64, of dimension 1; undefined: all
    bool met = false;     // in its place, what the first layer's touched weights meet
  };
  // The first touched layer: y[rows] = clean[rows] + (spread * change) met, with what each weight meets.
  struct First {
    NodeId id = -1;  // -1: nothing narrow
    ParameterId kernel = -1;
    at::Tensor indices, own;  // (weights): in the flat kernel, and their values there
    at::Tensor spread;        // (rows, weights): 1 where the weight belongs to the row
    at::Tensor one_hot;       // (weights, in, window): kernels that show what a convolution's weight meets
    at::Tensor columns;       // (weights): the inputs of a dense layer
    size_t input = 0, clean = 0;  // needs
  };
  struct Step {
    NodeId id = 0;
    std::vector<size_t> clean;  // a need for each input; kChanged where the input changes
    at::Tensor channels;        // of the result; undefined: all
  };
  struct Live {
    size_t clean = 0;      // the need that holds the clean value
    bool changed = false;  // its channels are replaced, or the whole value
  };
  static constexpr size_t kChanged = static_cast<size_t>(-1);

  size_t need(NodeId id, const at::Tensor& channels);
  void narrow_from(NodeId first, const std::vector<NodeId>& touched, const std::vector<WeightRef>& weights);
  bool start(NodeId first, const std::vector<WeightRef>& weights);
  bool pass(NodeId id);    // adds a step for a node that treats channels apart
  bool absorb(NodeId id);  // adds the step of a layer that takes the change into its clean output
  void finish(NodeId end);
  at::Tensor met(const at::Tensor& input) const;
  at::Tensor touched_channels(const std::vector<at::Tensor>& prepared,
                              const std::map<ParameterId, at::Tensor>& kernels) const;
  at::Tensor run(const Step& step, const std::vector<at::Tensor>& prepared,
                 const std::map<NodeId, at::Tensor>& changed) const;

  const Network* network_;
  std::vector<Need> needs_;
  std::vector<NodeId> reads_;
  First first_;
  std::vector<Step> steps_;
  std::map<NodeId, at::Tensor> channels_;  // of nodes whose value changes; undefined: all
  size_t absorbed_clean_ = 0;              // clean output of the absorbing layer
  at::Tensor absorbed_kernel_;             // its kernel, the changed channels only
  Cut rest_;
  std::vector<Live> live_;  // of rest_.live
};

}  // namespace harness::search

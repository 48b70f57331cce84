#pragma once

#include <functional>
#include <vector>

#include "approaches/locate/faults.hpp"

namespace harness::locate {

// Nodes to look at in a pass that judges inputs, so that nothing has to be run twice for them. Without nodes
// it is a plain pass.
struct PassWatch {
  std::vector<NodeId> ids = {};  // ascending
  // The inputs of a batch that the pass was made for (int64, places in the batch, CPU), and the values of
  // `ids` for the whole batch, on the network's device.
  std::function<void(const at::Tensor& rows, const std::vector<at::Tensor>& values)> see = nullptr;
};

// As judge_split(); `wrong` sees the misclassified inputs. Of networks that can be imported.
Judgement judge_split(const Network& network, const Split& split, const Batching& batching,
                      const PassWatch& wrong);

// As correct_inputs() (sampling.hpp), in the same order of draws; `taken` sees the inputs that are returned.
std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream, const PassWatch& taken);

}  // namespace harness::locate

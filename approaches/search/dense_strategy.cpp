#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "approaches/search/evaluation_strategy.hpp"

namespace harness::search {
namespace {

// Positions of `values` in their sorted, distinct list `distinct`.
std::vector<int64_t> numbered(const std::vector<int64_t>& values, std::vector<int64_t>* distinct) {
  *distinct = values;
  std::sort(distinct->begin(), distinct->end());
  distinct->erase(std::unique(distinct->begin(), distinct->end()), distinct->end());
  std::vector<int64_t> numbers;
  for (const int64_t value : values) {
    numbers.push_back(std::lower_bound(distinct->begin(), distinct->end(), value) - distinct->begin());
  }
  return numbers;
}

// The layer's outputs are z + a dW^T, where only touched rows and columns of dW are not zero: a product of
// (N, columns) and (columns, K rows) for K candidates.
class DenseStrategy final : public EvaluationStrategy {
 public:
  DenseStrategy(const EvaluatorSetup& setup, const SearchInputs& inputs, const TargetLayer& layer)
      : network_(setup.network),
        inputs_(inputs),
        objective_(setup.objective),
        layer_(layer),
        behind_(network_.cut_before(layer.node + 1)),
        size_(static_cast<int64_t>(setup.weights.size())) {
    const int64_t width = network_.parameters()[layer.weight].value.size(1);
    std::vector<int64_t> row, column;
    for (const WeightRef& weight : setup.weights) {
      row.push_back(weight.index / width);
      column.push_back(weight.index % width);
    }
    row_of_ = numbered(row, &rows_);
    column_of_ = numbered(column, &columns_);
    original_ = read_weights(network_, setup.weights);
    const at::Device device = network_.device();
    row_index_ = at::tensor(rows_, at::kLong).to(device);
    const at::Tensor column_index = at::tensor(columns_, at::kLong).to(device);
    // Where the logits are the model's output nothing reads them, and yet candidates start from them.
    if (layer.node == network_.logits_node()) behind_.live = {layer.node};
    std::vector<NodeId> wanted = behind_.live;
    wanted.push_back(layer.input);
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    const auto place = [&](NodeId id) {
      return static_cast<size_t>(std::lower_bound(wanted.begin(), wanted.end(), id) - wanted.begin());
    };
    for (const at::Tensor& part : narrow_slabs(setup, inputs)) {
      setup.batching.stop.check();
      const auto values = network_.activations(inputs.load(part), wanted);
      Slab slab{.numbers = part, .units = {}, .live = {}};
      slab.units = values[place(layer.input)].index_select(1, column_index);
      for (const NodeId id : behind_.live) slab.live.push_back(values[place(id)]);
      slabs_.push_back(std::move(slab));
    }
    own_ = static_cast<size_t>(std::find(behind_.live.begin(), behind_.live.end(), layer.node) -
                               behind_.live.begin());
    together_ = candidates_together(network_, layer.node, setup.batching.batch, 1 << 20);
  }

  const char* name() const override { return "dense"; }

  void judge(std::span<const double> candidates, std::span<const double> floors, std::span<Verdict> verdicts,
             const Stop& stop) const override {
    const auto all = static_cast<int64_t>(verdicts.size());
    for (int64_t begin = 0; begin < all; begin += together_) {
      const auto from = static_cast<size_t>(begin);
      const auto count = static_cast<size_t>(std::min(together_, all - begin));
      judge_some(candidates.subspan(from * static_cast<size_t>(size_), count * static_cast<size_t>(size_)),
                 floors.subspan(from, count), verdicts.subspan(from, count), stop);
    }
  }

  void classify(std::span<const double> candidate, std::span<int32_t> classes) const override {
    const at::Tensor delta = deltas(candidate, 1);
    for (const Slab& slab : slabs_) {
      write_classes(logits(slab, delta)[0], slab.numbers, classes);
    }
  }

 private:
  struct Slab {
    at::Tensor numbers;            // int64 (n), CPU
    at::Tensor units;              // (n, columns)
    std::vector<at::Tensor> live;  // values of behind_.live
  };

  // (K, rows, columns), on the device.
  at::Tensor deltas(std::span<const double> candidates, int64_t count) const {
    const auto rows = static_cast<int64_t>(rows_.size()), columns = static_cast<int64_t>(columns_.size());
    at::Tensor result = at::zeros({count, rows, columns});
    float* const to = result.data_ptr<float>();
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t i = 0; i < size_; ++i) {
        const auto at = static_cast<size_t>(i);
        to[(k * rows + row_of_[at]) * columns + column_of_[at]] =
            static_cast<float>(candidates[static_cast<size_t>(k * size_ + i)]) - original_[at];
      }
    }
    return result.to(network_.device());
  }

  // (K, n, classes)
  at::Tensor logits(const Slab& slab, const at::Tensor& delta) const {
    const int64_t count = delta.size(0), images = slab.units.size(0);
    const at::Tensor moved = at::matmul(slab.units, delta.flatten(0, 1).t())
                                 .view({images, count, delta.size(1)})
                                 .transpose(0, 1);  // (K, n, rows)
    const at::Tensor& own = slab.live[own_];
    // Rows are distinct, so they are replaced: adding to them has no deterministic form on CUDA.
    const at::Tensor z = own.unsqueeze(0).repeat({count, 1, 1});
    z.index_copy_(2, row_index_, own.index_select(1, row_index_).unsqueeze(0) + moved);
    if (layer_.node == network_.logits_node()) return z;
    std::vector<at::Tensor> live;
    for (size_t i = 0; i < slab.live.size(); ++i) {
      if (i == own_) {
        live.push_back(z.flatten(0, 1));
        continue;
      }
      std::vector<int64_t> shape = slab.live[i].sizes().vec();
      shape.insert(shape.begin(), count);
      live.push_back(slab.live[i].unsqueeze(0).expand(shape).flatten(0, 1));
    }
    return network_.suffix(behind_, live).unflatten(0, {count, images});
  }

  void judge_some(std::span<const double> candidates, std::span<const double> floors,
                  std::span<Verdict> verdicts, const Stop& stop) const {
    const at::Tensor delta = deltas(candidates, static_cast<int64_t>(verdicts.size()));
    for (Verdict& verdict : verdicts) verdict = inputs_.blank();
    for (const Slab& slab : slabs_) {
      stop.check();
      const at::Tensor all = logits(slab, delta).to(at::kCPU);
      bool hopeless = objective_.falls;
      for (size_t k = 0; k < verdicts.size(); ++k) {
        count(all[static_cast<int64_t>(k)], slab.numbers, inputs_, objective_, verdicts[k]);
        hopeless = hopeless && objective_.value(verdicts[k]) < floors[k];
      }
      if (hopeless) return;
    }
  }

  const Network& network_;
  const SearchInputs& inputs_;
  const Objective& objective_;
  TargetLayer layer_;
  Cut behind_;  // what lies behind the layer
  int64_t size_, together_ = 1;
  std::vector<int64_t> rows_, columns_, row_of_, column_of_;
  std::vector<float> original_;
  at::Tensor row_index_;
  size_t own_ = 0;  // the layer in behind_.live
  std::vector<Slab> slabs_;
};

}  // namespace

std::unique_ptr<EvaluationStrategy> dense_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs,
                                                   const TargetLayer& layer) {
  return std::make_unique<DenseStrategy>(setup, inputs, layer);
}

}  // namespace harness::search

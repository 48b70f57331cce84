#include "approaches/search/edit_evaluator.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>

#include "approaches/search/evaluation_strategy.hpp"
#include "approaches/search/suffix.hpp"
#include "harness/core/error.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::search {
namespace {

// Individuals that touch several layers go one by one; so many of them share the values in front of their
// first node where these are computed anew.
constexpr size_t kSharedPrefix = 8;

// Individuals that touch nothing but the kernel and bias of one layer: they share the layer's input and all
// of its output but the units they touch.
class LayerGroup {
 public:
  LayerGroup(const Network& network, const Cut& cut, std::span<const Edits> individuals)
      : node_(network.nodes()[static_cast<size_t>(cut.first)]),
        rest_(network, cut.first),
        count_(static_cast<int64_t>(individuals.size())) {
    const auto place = [&](NodeId id) {
      return static_cast<size_t>(std::find(cut.live.begin(), cut.live.end(), id) - cut.live.begin());
    };
    input_ = place(node_.inputs[0]);
    for (const NodeId id : rest_.skip_inputs()) skip_inputs_.push_back(place(id));
    kernel_ = graph::constant_value(network, node_.parameters[0]);
    bias_ = graph::constant_value(network, node_.parameters[1]);
    collect_units(individuals);
  }

  at::Tensor logits(const std::vector<at::Tensor>& live) const {  // (K,N,classes)
    const at::Tensor& x = live[input_];
    const at::Tensor shared = layer(x, kernel_, bias_).unsqueeze(0);
    std::vector<int64_t> shape = shared.sizes().vec();
    shape[0] = count_;
    const at::Tensor values = shared.expand(shape).contiguous();
    if (units_.numel() > 0) {
      const at::Tensor touched = layer(x, unit_kernels_, unit_biases_);  // (N, touched units, ...)
      values.transpose(1, 2).index_put_({owners_, units_}, touched.transpose(0, 1));
    }
    std::vector<at::Tensor> skip_inputs;
    for (const size_t at : skip_inputs_) skip_inputs.push_back(live[at]);
    return rest_.logits(values, skip_inputs);
  }

 private:
  at::Tensor layer(const at::Tensor& x, const at::Tensor& kernel, const at::Tensor& bias) const {
    return execute(node_, {x}, {kernel, bias});
  }

  // One row of the kernel, and one bias, for every unit that an individual touches.
  void collect_units(std::span<const Edits> individuals) {
    const int64_t row = kernel_.numel() / kernel_.size(0);
    const auto unit_of = [&](const Edit& edit) {
      return edit.parameter == node_.parameters[0] ? edit.index / row : edit.index;
    };
    std::vector<int64_t> owners, units;
    std::map<std::pair<int64_t, int64_t>, int64_t> number;  // of an individual's unit
    for (int64_t k = 0; k < count_; ++k) {
      for (const Edit& edit : individuals[static_cast<size_t>(k)]) {
        const int64_t unit = unit_of(edit);
        if (!number.emplace(std::pair(k, unit), static_cast<int64_t>(units.size())).second) continue;
        owners.push_back(k);
        units.push_back(unit);
      }
    }
    const at::Tensor chosen = at::tensor(units, at::kLong);
    unit_kernels_ = kernel_.cpu().index_select(0, chosen).contiguous();
    if (bias_.defined()) unit_biases_ = bias_.cpu().index_select(0, chosen).contiguous();
    for (int64_t k = 0; k < count_; ++k) {
      for (const Edit& edit : individuals[static_cast<size_t>(k)]) {
        const int64_t at = number.at({k, unit_of(edit)});
        if (edit.parameter == node_.parameters[0]) {
          unit_kernels_.data_ptr<float>()[at * row + edit.index % row] = edit.value;
        } else {
          unit_biases_.data_ptr<float>()[at] = edit.value;
        }
      }
    }
    unit_kernels_ = unit_kernels_.to(kernel_.device());
    if (bias_.defined()) unit_biases_ = unit_biases_.to(kernel_.device());
    owners_ = at::tensor(owners, at::kLong).to(kernel_.device());
    units_ = chosen.to(kernel_.device());
  }

  const Node& node_;
  Suffix rest_;
  int64_t count_;
  size_t input_ = 0;                 // place of the layer's input among the live values
  std::vector<size_t> skip_inputs_;  // and of what the rest reads beside the layer
  at::Tensor kernel_, bias_, unit_kernels_, unit_biases_;
  at::Tensor owners_, units_;  // of each row of unit_kernels_
};

}  // namespace

EditEvaluator::EditEvaluator(Setup setup) : setup_(std::move(setup)), inputs_(setup_.network, setup_.inputs) {
  if (inputs_.size() == 0) interface_misuse("an evaluator without inputs");
  cache_limit_ = setup_.cache_limit.value_or(cache_bytes(setup_.network.device()) / 2);
  const at::NoGradGuard no_grad;
  const at::Tensor order =
      smallest_margin_first(logits_of(setup_.network, inputs_, setup_.batching), inputs_.labels());
  for (const at::Tensor& part : order.split(setup_.batching.batch)) numbers_.push_back(part.contiguous());
  readers_ = graph::parameter_reader_counts(setup_.network);
}

NodeId EditEvaluator::first_touched(const Edits& individual) const {
  NodeId first = setup_.network.logits_node();
  ParameterId last = -1;
  for (const Edit& edit : individual) {
    if (edit.parameter == last) continue;
    last = edit.parameter;
    const NodeId node = setup_.network.node_of(last);
    if (node < 0) interface_misuse("an edit of a parameter that no node reads");
    first = std::min(first, node);
  }
  return first;
}

bool EditEvaluator::one_layer(const Edits& individual, NodeId first) const {
  const Node& node = setup_.network.nodes()[static_cast<size_t>(first)];
  if (!graph::is_ungrouped_convolution(node) && !graph::is_dense(node)) return false;
  return std::all_of(individual.begin(), individual.end(), [&](const Edit& edit) {
    const bool own = edit.parameter == node.parameters[0] || edit.parameter == node.parameters[1];
    return own && readers_[static_cast<size_t>(edit.parameter)] == 1;
  });
}

std::vector<std::vector<size_t>> EditEvaluator::groups(std::span<const Edits> individuals) const {
  std::map<std::pair<NodeId, bool>, std::vector<size_t>> alike;
  for (size_t i = 0; i < individuals.size(); ++i) {
    const NodeId first = first_touched(individuals[i]);
    alike[{first, one_layer(individuals[i], first)}].push_back(i);
  }
  std::vector<std::vector<size_t>> groups;
  for (const auto& [kind, members] : alike) {
    const size_t together =
        kind.second
            ? static_cast<size_t>(candidates_together(setup_.network, kind.first, setup_.batching.batch,
                                                      static_cast<int64_t>(members.size())))
            : kSharedPrefix;
    for (size_t begin = 0; begin < members.size(); begin += together) {
      const size_t end = std::min(members.size(), begin + together);
      groups.emplace_back(members.begin() + static_cast<int64_t>(begin),
                          members.begin() + static_cast<int64_t>(end));
    }
  }
  return groups;
}

bool EditEvaluator::judge(std::span<const Edits> individuals, std::span<Verdict> verdicts, const Stop& stop,
                          const Hopeless& hopeless) {
  for (const std::vector<size_t>& members : groups(individuals)) {
    std::vector<Edits> group;
    for (const size_t i : members) {
      group.push_back(individuals[i]);
      verdicts[i] = inputs_.blank();
    }
    const bool finished =
        run(group, stop, [&](size_t k, const at::Tensor& logits, const at::Tensor& numbers) {
          Verdict& verdict = verdicts[members[k]];
          count(logits, numbers, inputs_, setup_.objective, verdict);
          return !hopeless || !hopeless(verdict);
        });
    if (!finished) return false;
  }
  return true;
}

Verdict EditEvaluator::judge(const Edits& individual) {
  Verdict verdict;
  judge(std::span(&individual, 1), std::span(&verdict, 1));
  return verdict;
}

at::Tensor EditEvaluator::logits(const Edits& individual) {
  at::Tensor all;
  run(std::span(&individual, 1), {}, [&](size_t, const at::Tensor& logits, const at::Tensor& numbers) {
    if (!all.defined()) all = at::empty({inputs_.size(), logits.size(1)}, logits.options());
    all.index_copy_(0, numbers, logits);
    return true;
  });
  return all;
}

// False when stopped.
bool EditEvaluator::run(std::span<const Edits> group, const Stop& stop, const SeeLogits& see) {
  const at::NoGradGuard no_grad;
  const NodeId first = first_touched(group[0]);
  Prefix& prefix = prefix_before(first);
  std::optional<LayerGroup> together;
  std::vector<std::map<ParameterId, at::Tensor>> changed;
  if (one_layer(group[0], first)) {
    together.emplace(setup_.network, prefix.cut, group);
  } else {
    for (const Edits& individual : group) changed.push_back(overrides(setup_.network, individual));
  }
  std::vector<char> wanted(group.size(), 1);
  for (size_t slab = 0; slab < numbers_.size(); ++slab) {
    if (std::find(wanted.begin(), wanted.end(), 1) == wanted.end()) break;
    if (stop.requested()) return false;
    const Slab live = live_values(prefix, slab);
    if (together) {
      // All of them as long as any is wanted: how many share a product decides its last bits.
      const at::Tensor logits = together->logits(live).cpu();
      at::parallel_for(0, logits.size(0), 1, [&](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; ++k) {
          const auto at = static_cast<size_t>(k);
          if (wanted[at]) wanted[at] = see(at, logits[k], numbers_[slab]);
        }
      });
      continue;
    }
    for (size_t k = 0; k < changed.size(); ++k) {
      if (!wanted[k]) continue;
      if (stop.requested()) return false;
      wanted[k] = see(k, setup_.network.suffix(prefix.cut, live, changed[k]).cpu(), numbers_[slab]);
    }
  }
  return true;
}

EditEvaluator::Prefix& EditEvaluator::prefix_before(NodeId first) {
  const auto [found, fresh] = prefixes_.try_emplace(first);
  Prefix& prefix = found->second;
  if (fresh) {
    prefix.cut = setup_.network.cut_before(first);
    for (const NodeId id : prefix.cut.live) {
      const Node& node = setup_.network.nodes()[static_cast<size_t>(id)];
      prefix.bytes += graph::value_count(node.shape) * inputs_.size() * int64_t{sizeof(float)};
    }
  }
  if (prefix.bytes > cache_limit_) return prefix;
  if (prefix.slabs.empty()) {
    make_room(prefix.bytes);
    prefix.slabs.resize(numbers_.size());
    cached_bytes_ += prefix.bytes;
  } else {
    used_.remove(first);
  }
  used_.push_back(first);
  return prefix;
}

EditEvaluator::Slab EditEvaluator::live_values(Prefix& prefix, size_t slab) const {
  const auto make = [&] { return setup_.network.prefix(prefix.cut, inputs_.load(numbers_[slab])); };
  if (prefix.slabs.empty()) return make();
  if (prefix.slabs[slab].empty()) prefix.slabs[slab] = make();
  return prefix.slabs[slab];
}

void EditEvaluator::make_room(int64_t bytes) {
  while (!used_.empty() && cached_bytes_ + bytes > cache_limit_) {
    Prefix& oldest = prefixes_.at(used_.front());
    oldest.slabs.clear();
    cached_bytes_ -= oldest.bytes;
    used_.pop_front();
  }
}

}  // namespace harness::search

#include "approaches/locate/watched_pass.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "approaches/locate/sampling.hpp"

namespace harness::locate {
namespace {

// Classes (int64, CPU) of a batch, and the values of the watched nodes.
struct Seen {
  at::Tensor classes;
  std::vector<at::Tensor> values;
};

Seen look(const Network& network, const at::Tensor& x, const PassWatch& watch) {
  if (watch.ids.empty()) return {network.classify(x).cpu(), {}};
  const NodeId output = network.output_node();
  std::vector<NodeId> ids = watch.ids;
  const auto place = std::lower_bound(ids.begin(), ids.end(), output);
  const auto at = place - ids.begin();
  const bool is_watched = place != ids.end() && *place == output;
  if (!is_watched) ids.insert(place, output);
  Seen seen{.classes = {}, .values = network.activations(x, ids)};
  seen.classes = seen.values[static_cast<size_t>(at)].argmax(1).cpu();
  if (!is_watched) seen.values.erase(seen.values.begin() + at);
  return seen;
}

void show(const PassWatch& watch, const at::Tensor& rows, const Seen& seen) {
  if (watch.see && rows.numel() > 0) watch.see(rows, seen.values);
}

// How many inputs probably hold `missing` correct ones, if `picked` of the first `judged` were; a few more,
// as a batch of rest costs more than these.
int64_t expected_to_hold(int64_t missing, const std::vector<int64_t>& picked, int64_t judged) {
  const double share = judged == 0 ? 1 : static_cast<double>(picked.size()) / static_cast<double>(judged);
  return static_cast<int64_t>(static_cast<double>(missing) / std::max(share, 0.05) * 1.02) + 4;
}

}  // namespace

Judgement judge_split(const Network& network, const Split& split, const Batching& batching,
                      const PassWatch& wrong) {
  std::vector<at::Tensor> classes = {at::empty({0}, at::kLong)};
  for_each_batch(network, split, batching, [&](const Batch& batch) {
    const Seen seen = look(network, batch.x, wrong);
    classes.push_back(seen.classes);
    show(wrong, (seen.classes != batch.labels).nonzero().flatten(), seen);
  });
  return judgement_of(split.labels(), at::cat(classes));
}

std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream, const PassWatch& taken) {
  const InputSet mixed{&split, stream.permutation(split.size())};
  std::vector<int64_t> picked;
  int64_t begin = 0;
  while (begin < mixed.size() && (maximum == 0 || std::ssize(picked) < maximum)) {
    batching.stop.check();
    int64_t count = batching.batch;
    if (maximum > 0) count = std::min(count, expected_to_hold(maximum - std::ssize(picked), picked, begin));
    const Batch batch = batch_of(network, mixed, begin, std::min(mixed.size(), begin + count));
    const Seen seen = look(network, batch.x, taken);
    at::Tensor rows = (seen.classes == batch.labels).nonzero().flatten();
    if (maximum > 0) rows = rows.slice(0, 0, std::min(rows.numel(), maximum - std::ssize(picked)));
    for (const int64_t k : positions_of(rows.contiguous()))
      picked.push_back(mixed.positions[static_cast<size_t>(batch.begin + k)]);
    show(taken, rows, seen);
    begin += batch.labels.numel();
  }
  std::sort(picked.begin(), picked.end());
  return picked;
}

}  // namespace harness::locate

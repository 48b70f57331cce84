#include "approaches/locate/faults.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "approaches/batches.hpp"
#include "harness/core/error.hpp"

namespace harness::locate {
namespace {

std::vector<int64_t> pick(const std::vector<int64_t>& from, int64_t count, RandomStream& stream) {
  std::vector<int64_t> picked;
  for (const int64_t k : stream.sample(static_cast<int64_t>(from.size()), count)) picked.push_back(from[k]);
  return picked;
}

}  // namespace

Judgement judgement_of(const at::Tensor& labels, const at::Tensor& predictions) {
  Judgement judgement{.labels = labels, .predictions = predictions, .correct = {}, .wrong = {}};
  const auto label = labels.accessor<int64_t, 1>(), prediction = predictions.accessor<int64_t, 1>();
  for (int64_t n = 0; n < labels.numel(); ++n) {
    (label[n] == prediction[n] ? judgement.correct : judgement.wrong).push_back(n);
  }
  return judgement;
}

Judgement judge_split(const Network& network, const Split& split, const Batching& batching) {
  return judgement_of(split.labels(), predict(network, split, batching));
}

std::vector<ErrorType> error_types(const Judgement& judgement) {
  const auto label = judgement.labels.accessor<int64_t, 1>();
  const auto prediction = judgement.predictions.accessor<int64_t, 1>();
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> found;
  for (const int64_t n : judgement.wrong) found[{label[n], prediction[n]}].push_back(n);
  std::vector<ErrorType> types;
  for (auto& [pair, members] : found) types.push_back({pair.first, pair.second, std::move(members)});
  std::stable_sort(types.begin(), types.end(), [](const ErrorType& a, const ErrorType& b) {
    return a.negatives.size() > b.negatives.size();
  });
  return types;
}

std::vector<int64_t> choose_negatives(const Judgement& judgement, const NegativeChoice& choice,
                                      RandomStream& stream) {
  if (choice.which == "all" || judgement.wrong.empty()) return judgement.wrong;
  if (choice.which == "pair") {
    std::vector<ErrorType> types = error_types(judgement);
    const auto rank = static_cast<size_t>(choice.pair_rank);
    return rank > types.size() ? std::vector<int64_t>() : std::move(types[rank - 1].negatives);
  }
  if (choice.which != "fraction") interface_misuse("unknown choice of negatives: " + choice.which);
  const double share = std::floor(choice.fraction * static_cast<double>(judgement.wrong.size()));
  std::vector<int64_t> negatives =
      pick(judgement.wrong, std::max<int64_t>(1, static_cast<int64_t>(share)), stream);
  std::sort(negatives.begin(), negatives.end());
  return negatives;
}

std::vector<int64_t> matching_positives(const Judgement& judgement, int64_t negatives, RandomStream& stream) {
  const int64_t positives = static_cast<int64_t>(judgement.correct.size());
  if (negatives >= positives) return judgement.correct;
  const auto label = judgement.labels.accessor<int64_t, 1>();
  std::map<int64_t, std::vector<int64_t>> of_class;
  for (const int64_t n : judgement.correct) of_class[label[n]].push_back(n);
  std::vector<int64_t> matching;
  for (const auto& [name, members] : of_class) {
    const int64_t there = static_cast<int64_t>(members.size());
    const double share =
        static_cast<double>(negatives) * static_cast<double>(there) / static_cast<double>(positives);
    const std::vector<int64_t> picked =
        pick(members, std::clamp<int64_t>(std::lround(share), 1, there), stream);
    matching.insert(matching.end(), picked.begin(), picked.end());
  }
  std::sort(matching.begin(), matching.end());
  return matching;
}

}  // namespace harness::locate

#include "harness/data/reader.hpp"

#include <algorithm>

#include "harness/core/error.hpp"

namespace harness {

BatchReader::BatchReader(const Split& split, int64_t batch, int64_t count)
    : split_(split), batch_(batch), count_(std::min(count, split.size())) {
  if (batch < 1) interface_misuse("a batch of " + std::to_string(batch) + " images");
  if (!split_.resident()) read_ahead();
}

BatchReader::~BatchReader() {
  if (ahead_.valid()) ahead_.wait();
}

std::optional<at::Tensor> BatchReader::next() {
  if (split_.resident()) {
    if (position_ >= count_) return std::nullopt;
    const auto [begin, end] = advance();
    return split_.inputs(begin, end);
  }
  if (!ahead_.valid()) return std::nullopt;
  const at::Tensor stored = ahead_.get();
  read_ahead();
  return split_.normalised(stored);
}

std::pair<int64_t, int64_t> BatchReader::advance() {
  const int64_t begin = position_;
  position_ = std::min(begin + batch_, count_);
  return {begin, position_};
}

void BatchReader::read_ahead() {
  if (position_ >= count_) return;
  const auto [begin, end] = advance();
  ahead_ = std::async(std::launch::async, [this, from = begin, to = end] { return split_.stored(from, to); });
}

}  // namespace harness

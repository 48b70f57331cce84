#pragma once

#include <ATen/core/Tensor.h>

#include <future>
#include <optional>
#include <utility>

#include "harness/data/dataset.hpp"

namespace harness {

// The first `count` images of a split as consecutive batches of network inputs. Where the split is read from
// its file, a thread reads the next batch while the caller works on this one; two batches are in memory at
// most. The split must outlive the reader, and must not be used otherwise meanwhile.
class BatchReader {
 public:
  BatchReader(const Split& split, int64_t batch, int64_t count);
  ~BatchReader();
  BatchReader(const BatchReader&) = delete;
  BatchReader& operator=(const BatchReader&) = delete;

  // float32 (n,C,H,W) on the CPU, or nothing at the end. Throws UserError where the file cannot be read.
  std::optional<at::Tensor> next();

 private:
  std::pair<int64_t, int64_t> advance();
  void read_ahead();

  const Split& split_;
  int64_t batch_, count_;
  int64_t position_ = 0;  // first image that has not been requested
  std::future<at::Tensor> ahead_;
};

}  // namespace harness

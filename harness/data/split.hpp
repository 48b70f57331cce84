#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "harness/data/dataset.hpp"
#include "harness/data/hdf5.hpp"

// The two kinds of Split; for the sources of harness/data only.
namespace harness {

// (images / divisor - mean) / std. The sum is done in double precision and rounded once, so that the inputs
// are those that NumPy would make; for uint8 that is a table of 256 values per channel.
class Normaliser {
 public:
  Normaliser(const DatasetInfo& info);
  // `raw` is contiguous (n,C,H,W), uint8 or float32; result float32 of the same shape.
  at::Tensor operator()(const at::Tensor& raw) const;
  // The images `indices` (contiguous int64, in range) of `raw` in one pass.
  at::Tensor gathered(const at::Tensor& raw, const at::Tensor& indices) const;

 private:
  at::Tensor convert(const at::Tensor& raw, const int64_t* indices, int64_t count) const;

  double divisor_;
  std::vector<double> mean_, std_;
  std::vector<float> table_;  // (C,256)
};

struct SplitParts {
  std::string path;  // "/test", for messages
  std::filesystem::path file;
  std::shared_ptr<hdf5::Handle> open_file;
  hdf5::DatasetHandle images;
  int64_t size = 0;  // at most images.shape[0]
  at::Tensor labels, groups;
};

// Raw images [begin, end) as stored; throws UserError where HDF5 cannot read them.
at::Tensor read_raw(const SplitParts& parts, int64_t begin, int64_t end);

// Keeps the raw images in memory if `resident`; else reads them when they are needed.
std::shared_ptr<const Split> make_split(SplitParts parts, const DatasetInfo& info, bool resident);

}  // namespace harness

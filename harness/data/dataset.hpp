#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace harness {

// One split of a data set. Small splits (raw size up to kResidentLimit) stay in memory as stored, others are
// read by slabs. Tensors are on the CPU. Not thread-safe: one thread at a time.
class Split {
 public:
  virtual ~Split() = default;
  virtual int64_t size() const = 0;
  virtual const at::Tensor& labels() const = 0;  // int64 (N), in 0..classes-1
  virtual const at::Tensor& groups() const = 0;  // uint8 (N), 0 or 1; undefined where the split has none
  // Network inputs, float32 (n,C,H,W): (images / divisor - mean) / std. Images [begin, end).
  virtual at::Tensor inputs(int64_t begin, int64_t end) const = 0;
  // The same for the images with these numbers: int64, in any order, repeats allowed.
  virtual at::Tensor inputs(const at::Tensor& indices) const = 0;
  // The two steps of inputs(begin, end): stored() reads the images as they are in the file, uint8 or float32,
  // and normalised() makes network inputs of them. stored() may run in another thread.
  virtual bool resident() const = 0;  // in memory; else stored() reads the file
  virtual at::Tensor stored(int64_t begin, int64_t end) const = 0;
  virtual at::Tensor normalised(const at::Tensor& stored) const = 0;
};
inline constexpr int64_t kResidentLimit = int64_t{1} << 30;

struct DatasetInfo {
  int64_t classes = 0;
  double divisor = 1;
  std::vector<double> mean, std;         // per channel
  std::vector<std::string> group_names;  // empty or two
  std::vector<int64_t> shape;            // C,H,W
  std::string stored_type;               // "uint8" or "float32"
};

// A data file (layout: harness/docs/design.md, Data). open() checks every group, rank, type, label, group
// value and, for float images, that all values are finite; it throws one UserError with all problems (file,
// HDF5 path or "/@NAME" for an attribute, found, expected), also for truncated files. `limit` keeps the first
// N images of a split (--limit); splits of more raw bytes than `resident_limit` are read by slabs.
class Dataset {
 public:
  static Dataset open(const std::filesystem::path& file, const std::map<std::string, int64_t>& limit = {},
                      int64_t resident_limit = kResidentLimit);
  const DatasetInfo& info() const { return info_; }
  bool has(const std::string& split) const { return splits_.count(split) > 0; }
  const Split& split(const std::string& name) const;  // misuse where it is absent
  std::vector<std::string> split_names() const;       // in the order train, validation, repair, test
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;
  DatasetInfo info_;
  std::map<std::string, std::shared_ptr<const Split>> splits_;
};

inline const std::vector<std::string> kSplitNames = {"train", "validation", "repair", "test"};

}  // namespace harness

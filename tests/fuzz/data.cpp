// The bytes are an HDF5 file. Of one that opens every image and label is read.
#include <ATen/ATen.h>

#include "harness/core/error.hpp"
#include "harness/data/dataset.hpp"
#include "tests/fuzz/targets.hpp"

namespace harness::testing {

void fuzz_data(std::string_view bytes, const std::filesystem::path& folder) {
  constexpr int64_t kMaxImages = 64;  // of a split: a few bytes can promise millions
  const std::filesystem::path file = folder / "data.h5";
  write_bytes(file, bytes);
  try {
    const std::map<std::string, int64_t> limit = {
        {"train", kMaxImages}, {"validation", kMaxImages}, {"repair", kMaxImages}, {"test", kMaxImages}};
    const Dataset data = Dataset::open(file, limit);
    for (const std::string& name : data.split_names()) {
      const Split& split = data.split(name);
      const at::Tensor inputs = split.inputs(0, split.size());
      if (inputs.size(0) != split.labels().size(0))
        fault("images and labels of " + name + " differ in number");
      if (split.size() > 0 && split.labels().max().item<int64_t>() >= data.info().classes) {
        fault("a label of " + name + " is beyond the classes");
      }
    }
  } catch (const UserError&) {
  }
}

}  // namespace harness::testing

#include "harness/data/split.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "harness/core/error.hpp"

namespace harness {

namespace {

constexpr int64_t kGrain = 1 << 16;  // values a thread converts at least

void check_range(int64_t begin, int64_t end, int64_t size) {
  if (begin < 0 || begin > end || end > size) {
    interface_misuse("images " + std::to_string(begin) + " to " + std::to_string(end) + " of a split of " +
                     std::to_string(size));
  }
}

at::Tensor checked_indices(const at::Tensor& indices, int64_t size) {
  if (indices.dim() != 1 || indices.scalar_type() != at::kLong) {
    interface_misuse("image numbers are a vector of int64");
  }
  const at::Tensor numbers = indices.cpu().contiguous();
  const int64_t* data = numbers.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < numbers.numel(); ++i) {
    if (data[i] < 0 || data[i] >= size) {
      interface_misuse("image " + std::to_string(data[i]) + " of a split of " + std::to_string(size));
    }
  }
  return numbers;
}

void check_finite(const SplitParts& parts, const at::Tensor& raw, int64_t begin) {
  const at::Tensor finite = at::isfinite(raw);
  if (finite.all().item<bool>()) return;
  const at::Tensor first = at::nonzero(finite.logical_not())[0];
  const auto at_dimension = [&](int64_t dimension) { return first[dimension].item<int64_t>(); };
  const float value = raw.index({first[0], first[1], first[2], first[3]}).item<float>();
  throw UserError({parts.file.string(), parts.path + "/images",
                   std::string(std::isnan(value) ? "NaN" : "an infinite value") + " in image " +
                       std::to_string(begin + at_dimension(0)) + ", channel " +
                       std::to_string(at_dimension(1)) + ", row " + std::to_string(at_dimension(2)) +
                       ", column " + std::to_string(at_dimension(3)),
                   "finite numbers", ""});
}

class BaseSplit : public Split {
 public:
  BaseSplit(SplitParts parts, const DatasetInfo& info) : parts_(std::move(parts)), normalise_(info) {}
  int64_t size() const override { return parts_.size; }
  const at::Tensor& labels() const override { return parts_.labels; }
  const at::Tensor& groups() const override { return parts_.groups; }
  at::Tensor inputs(int64_t begin, int64_t end) const override { return normalise_(stored(begin, end)); }
  at::Tensor normalised(const at::Tensor& stored) const override { return normalise_(stored); }

 protected:
  SplitParts parts_;
  Normaliser normalise_;
};

class ResidentSplit final : public BaseSplit {
 public:
  ResidentSplit(SplitParts parts, const DatasetInfo& info)
      : BaseSplit(std::move(parts), info), raw_(read_raw(parts_, 0, parts_.size)) {
    parts_.images = {};
    parts_.open_file.reset();
  }

  bool resident() const override { return true; }
  at::Tensor stored(int64_t begin, int64_t end) const override {
    check_range(begin, end, size());
    return raw_.narrow(0, begin, end - begin);
  }

  using BaseSplit::inputs;
  at::Tensor inputs(const at::Tensor& indices) const override {
    return normalise_.gathered(raw_, checked_indices(indices, size()));
  }

 private:
  at::Tensor raw_;
};

class SlabSplit final : public BaseSplit {
 public:
  using BaseSplit::BaseSplit;

  bool resident() const override { return false; }
  at::Tensor stored(int64_t begin, int64_t end) const override {
    check_range(begin, end, size());
    return read_raw(parts_, begin, end);
  }

  using BaseSplit::inputs;
  // Neighbouring images are read together, in file order, so that no chunk is decompressed twice.
  at::Tensor inputs(const at::Tensor& indices) const override {
    const at::Tensor numbers = checked_indices(indices, size());
    auto [sorted, position] = at::_unique(numbers, /*sorted=*/true, /*return_inverse=*/true);
    const int64_t* wanted = sorted.const_data_ptr<int64_t>();
    std::vector<at::Tensor> pieces;
    for (int64_t begin = 0, end = 0; begin < sorted.numel(); begin = end) {
      for (end = begin + 1; end < sorted.numel() && wanted[end] == wanted[end - 1] + 1;) ++end;
      pieces.push_back(read_raw(parts_, wanted[begin], wanted[end - 1] + 1));
    }
    const at::Tensor raw = pieces.empty()       ? read_raw(parts_, 0, 0)
                           : pieces.size() == 1 ? pieces[0]
                                                : at::cat(pieces);
    return normalise_.gathered(raw, position.contiguous());
  }
};

}  // namespace

Normaliser::Normaliser(const DatasetInfo& info) : divisor_(info.divisor), mean_(info.mean), std_(info.std) {
  table_.resize(mean_.size() * 256);
  for (size_t channel = 0; channel < mean_.size(); ++channel) {
    for (size_t value = 0; value < 256; ++value) {
      table_[channel * 256 + value] =
          static_cast<float>((static_cast<double>(value) / divisor_ - mean_[channel]) / std_[channel]);
    }
  }
}

at::Tensor Normaliser::operator()(const at::Tensor& raw) const {
  return convert(raw, nullptr, raw.size(0));
}

at::Tensor Normaliser::gathered(const at::Tensor& raw, const at::Tensor& indices) const {
  return convert(raw, indices.const_data_ptr<int64_t>(), indices.numel());
}

at::Tensor Normaliser::convert(const at::Tensor& raw, const int64_t* indices, int64_t count) const {
  const int64_t channels = raw.size(1), plane = raw.size(2) * raw.size(3);
  at::Tensor result = at::empty({count, channels, raw.size(2), raw.size(3)}, at::kFloat);
  float* target = result.data_ptr<float>();
  const bool bytes = raw.scalar_type() == at::kByte;
  const uint8_t* from_bytes = bytes ? raw.const_data_ptr<uint8_t>() : nullptr;
  const float* from_floats = bytes ? nullptr : raw.const_data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kGrain / plane);
  at::parallel_for(0, count * channels, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {  // one plane: image i / channels, channel i % channels
      const int64_t image = indices == nullptr ? i / channels : indices[i / channels];
      const int64_t channel = i % channels, offset = (image * channels + channel) * plane;
      float* out = target + i * plane;
      if (bytes) {
        const float* table = table_.data() + channel * 256;
        for (int64_t k = 0; k < plane; ++k) out[k] = table[from_bytes[offset + k]];
      } else {
        const double mean = mean_[static_cast<size_t>(channel)], std = std_[static_cast<size_t>(channel)];
        for (int64_t k = 0; k < plane; ++k) {
          out[k] = static_cast<float>((static_cast<double>(from_floats[offset + k]) / divisor_ - mean) / std);
        }
      }
    }
  });
  return result;
}

at::Tensor read_raw(const SplitParts& parts, int64_t begin, int64_t end) {
  std::vector<int64_t> shape = parts.images.shape;
  shape[0] = end - begin;
  const bool bytes = parts.images.is_integer;
  at::Tensor raw = at::empty(shape, bytes ? at::kByte : at::kFloat);
  const hdf5::Lock lock;
  const hdf5::Silence silence;
  if (!hdf5::read_rows(parts.images, begin, end - begin, bytes ? H5T_NATIVE_UINT8 : H5T_NATIVE_FLOAT,
                       raw.data_ptr())) {
    throw UserError({parts.file.string(), parts.path + "/images",
                     "images " + std::to_string(begin) + " to " + std::to_string(end - 1) +
                         " that cannot be read (" + hdf5::last_error() + ")",
                     "a whole file", ""});
  }
  if (!bytes) check_finite(parts, raw, begin);
  return raw;
}

std::shared_ptr<const Split> make_split(SplitParts parts, const DatasetInfo& info, bool resident) {
  if (resident) return std::make_shared<ResidentSplit>(std::move(parts), info);
  return std::make_shared<SlabSplit>(std::move(parts), info);
}

}  // namespace harness

#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/core/error.hpp"
#include "harness/data/dataset.hpp"
#include "harness/measure/pgd.hpp"
#include "harness/model/network.hpp"

namespace harness {

// The inputs that a model is recorded and checked on: the first images of a split with at least two images,
// the test split where it has them. Throws UserError where there is no such split.
at::Tensor sample_inputs(const Dataset& data);

// What 255 pixel steps are in stored units: 255 where any value in the file is above 1, else 1. All of the
// file counts, also where only a part of it is used. Throws UserError for values below 0 or above 255.
double pixel_full_scale(const std::filesystem::path& file);

// The error for an original whose answers change; `why` is a sentence that says how that was seen.
UserError random_original(const std::filesystem::path& file, const std::string& why);

// One subject, opened: its data, the original on its device, and how it is attacked. Throws UserError for
// files that cannot be used or do not fit each other, for an original whose parameters are not finite or
// whose answers are random, and for images outside the bounds of the attack.
class Subject {
 public:
  Subject(const SubjectConfig& subject, const Config& config, at::Device device);

  const SubjectConfig& config() const { return subject_; }
  const Dataset& data() const { return data_; }
  const Network& original() const { return *original_; }
  const at::Tensor& sample() const { return sample_; }
  const std::vector<std::map<std::string, at::Tensor>>& history() const { return history_; }
  const std::vector<std::string>& group_names() const { return group_names_; }
  int64_t batch() const { return batch_; }  // images per forward pass
  double load_seconds() const { return load_seconds_; }

  // Loads another model of this subject, on the same device. Throws UserError, also where its number of
  // classes differs.
  Network load_model(const std::filesystem::path& file) const;

  // Labels and groups of a split, in split order.
  std::vector<int32_t> labels(const std::string& split) const;
  std::vector<uint8_t> groups(const std::string& split) const;  // empty where there are none

  // For attacks: the test images in their seeded order, and all options except the bounds.
  const std::vector<int64_t>& attack_order() const { return attack_order_; }
  PgdOptions attack_options() const;
  uint64_t attack_order_seed() const { return order_seed_; }
  uint64_t attack_start_seed() const { return start_seed_; }
  // What 255 pixel steps are in stored units; empty where epsilon is not given in pixels.
  std::optional<double> full_scale() const { return full_scale_; }

 private:
  void check_original() const;
  void check_bounds() const;
  double epsilon_in_inputs() const;

  std::chrono::steady_clock::time_point start_;  // before the members whose loading it times
  const SubjectConfig& subject_;
  Dataset data_;
  at::Tensor sample_;
  std::optional<Network> original_;
  std::vector<std::map<std::string, at::Tensor>> history_;
  std::vector<std::string> group_names_;
  std::vector<int64_t> attack_order_;
  uint64_t order_seed_ = 0, start_seed_ = 0;
  std::optional<double> full_scale_;
  int64_t batch_ = 1;
  double load_seconds_ = 0;
};

}  // namespace harness

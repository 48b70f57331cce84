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

// The inputs a model is recorded and checked on: the first images of the first split that has two or more
// (test before the others). Throws UserError where no split has.
at::Tensor sample_inputs(const Dataset& data);

// What 255 pixel steps are in stored units: 255 where any stored value of the file is above 1, else 1; of the
// whole file, whatever part of it is used. Throws UserError for values below 0 or above 255.
double pixel_full_scale(const std::filesystem::path& file);

// Of an original whose answers change: `why` is the sentence that says what showed it.
UserError random_original(const std::filesystem::path& file, const std::string& why);

// One subject, opened: data and original on their device, and how its attack is done. Throws
// UserError for files that cannot be used or do not fit each other, for an original with parameters that are
// not finite or with random answers, and for images outside the bounds of the attack.
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

  // A model of this subject from elsewhere, on the same device. Throws UserError, also when its classes
  // differ.
  Network load_model(const std::filesystem::path& file) const;

  // Labels and groups of a split beside the classes predicted there.
  std::vector<int32_t> labels(const std::string& split) const;
  std::vector<uint8_t> groups(const std::string& split) const;  // empty where there are none

  // Attack: test images in their seeded order; options but for the bounds.
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

  std::chrono::steady_clock::time_point start_;  // first: times what follows
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

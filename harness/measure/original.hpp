#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/measure/metrics/metric.hpp"
#include "harness/measure/predict.hpp"
#include "harness/measure/subject.hpp"

namespace harness {

// Flags of attacked images (image -> flag) of one network; kUnknown where it was not attacked.
struct AttackFlags {
  static constexpr uint8_t kUnknown = 2;
  std::vector<uint8_t> success, zero_gradient, margin;  // one per test image; margin empty where not wanted
};

// What all cells of a subject need to know of the original: computed once, kept in
// subjects/<subject>/original.json. The attack grows when a cell needs more images, always by whole pieces of
// the original's correct images in the subject's seeded order. So no flag depends on the order of the cells.
class Original {
 public:
  // Nothing is kept where `cache` is empty. `identity`: digest of everything that decides the values.
  Original(const Subject& subject, std::filesystem::path cache, std::string identity);

  const std::vector<int32_t>& classes(const std::string& split) const;  // test or repair
  double predict_seconds() const { return predict_seconds_; }           // 0 where they come from the cache
  double low() const { return low_; }  // of the test split, after normalisation
  double high() const { return high_; }
  double accuracy() const;  // percent, of the test split
  int64_t faults(const std::string& split) const;
  PgdOptions attack_options() const;  // with the bounds filled in

  // Attacks those of `images` that have no flags yet, and saves. All must be classified correctly by the
  // original. Throws Interrupted.
  const AttackFlags& attack(const std::vector<int64_t>& images);

 private:
  bool load();
  void save() const;

  const Subject& subject_;
  std::filesystem::path cache_;
  std::string identity_;
  std::map<std::string, std::vector<int32_t>> classes_;
  std::string not_finite_, random_;  // predict.hpp
  double predict_seconds_ = 0;
  double low_ = 0, high_ = 1;
  std::vector<int64_t> correct_;  // test images the original gets right, in attack order
  AttackFlags flags_;
};

// Attacks `network` on test images, with the margin loss too where the subject wants that, and sets the flags
// of these images.
void attack_images(const Subject& subject, const Network& network, PgdOptions options,
                   const std::vector<int64_t>& images, AttackFlags* flags);
AttackFlags no_flags(const Subject& subject);

}  // namespace harness

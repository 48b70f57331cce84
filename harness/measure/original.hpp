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

// What all cells of a subject need of the original: computed once, kept in subjects/<subject>/original.json.
// The attack grows as cells ask for more images, always by whole pieces of the original's own correct images
// in the subject's seeded order, so that no flag depends on which cell asked first.
class Original {
 public:
  // `cache` empty: nothing is kept. `identity`: digest of all that decides the values.
  Original(const Subject& subject, std::filesystem::path cache, std::string identity);

  const std::vector<int32_t>& classes(const std::string& split) const;  // test or repair
  double predict_seconds() const { return predict_seconds_; }           // 0 where the classes were kept
  double low() const { return low_; }  // of the test split, after normalisation
  double high() const { return high_; }
  double accuracy() const;  // percent, of the test split
  int64_t faults(const std::string& split) const;
  PgdOptions attack_options() const;  // with the bounds filled in

  // Attacks what is missing of `images` (correct ones) and saves. Throws Interrupted.
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

// Both attacks (margin where the subject wants it) of `network` on test images; flags of their images are
// set.
void attack_images(const Subject& subject, const Network& network, PgdOptions options,
                   const std::vector<int64_t>& images, AttackFlags* flags);
AttackFlags no_flags(const Subject& subject);

}  // namespace harness

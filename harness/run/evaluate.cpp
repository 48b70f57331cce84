#include "harness/run/evaluate.hpp"

#include <chrono>

#include "harness/core/error.hpp"
#include "harness/run/device.hpp"

namespace harness {
namespace {

class Stopwatch {
 public:
  Stopwatch(at::Device device, double* seconds) : device_(device), seconds_(seconds) {}
  ~Stopwatch() {
    try {
      synchronise(device_);
    } catch (const std::exception&) {  // a broken device: what was timed reports it, or has already thrown
    }
    *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  at::Device device_;
  double* seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

SplitOutcome outcome_of(const Subject& subject, const Original& original, const std::string& split,
                        std::vector<int32_t> fixed) {
  return {subject.labels(split), original.classes(split), std::move(fixed), subject.groups(split)};
}

// The first images in the subject's order that both models classify correctly.
std::vector<int64_t> both_correct(const Subject& subject, const SplitOutcome& test) {
  const auto& sample = subject.config().attack->sample;
  std::vector<int64_t> images;
  for (const int64_t image : subject.attack_order()) {
    if (sample && static_cast<int64_t>(images.size()) >= *sample) break;
    const auto at = static_cast<size_t>(image);
    if (test.original[at] == test.label[at] && test.fixed[at] == test.label[at]) images.push_back(image);
  }
  return images;
}

std::vector<uint8_t> pick(const std::vector<uint8_t>& flags, const std::vector<int64_t>& images) {
  std::vector<uint8_t> picked;
  for (size_t i = 0; i < images.size() && !flags.empty(); ++i) {
    const uint8_t flag = flags[static_cast<size_t>(images[i])];
    if (flag == AttackFlags::kUnknown) interface_misuse("an attacked image has no flag");
    picked.push_back(flag);
  }
  return picked;
}

}  // namespace

EvaluatedModel evaluate_predictions(const Subject& subject, const Original& original, const Network& fixed) {
  EvaluatedModel model;
  const Stopwatch watch(fixed.device(), &model.phases["predict"]);
  model.evaluation.classes = subject.data().info().classes;
  model.evaluation.no_attack_reason = "no_attack: the subject configures none";
  Predictions test = predict(fixed, subject.data().split("test"), subject.batch());
  model.finite = test.finite;
  model.evaluation.test = outcome_of(subject, original, "test", std::move(test.classes));
  const SplitOutcome& outcome = model.evaluation.test;
  int64_t right = 0;
  for (size_t i = 0; i < outcome.label.size(); ++i) right += outcome.label[i] == outcome.fixed[i];
  model.accuracy = 100.0 * static_cast<double>(right) / static_cast<double>(outcome.label.size());
  if (subject.data().has("repair")) {
    Predictions repair = predict(fixed, subject.data().split("repair"), subject.batch());
    model.finite = model.finite && repair.finite;
    model.evaluation.repair = outcome_of(subject, original, "repair", std::move(repair.classes));
  }
  return model;
}

void evaluate_attack(const Subject& subject, Original* original, const Network& fixed,
                     EvaluatedModel* model) {
  if (!subject.config().attack) return;
  const std::vector<int64_t> images = both_correct(subject, model->evaluation.test);
  const AttackFlags* before = nullptr;
  {
    const Stopwatch watch(fixed.device(), &model->phases["attack_original"]);
    before = &original->attack(images);
  }
  AttackFlags after = no_flags(subject);
  {
    const Stopwatch watch(fixed.device(), &model->phases["attack"]);
    attack_images(subject, fixed, original->attack_options(), images, &after);
  }
  AttackOutcome outcome;
  outcome.image = images;
  outcome.original = pick(before->success, images);
  outcome.fixed = pick(after.success, images);
  outcome.zero_gradient_original = pick(before->zero_gradient, images);
  outcome.zero_gradient = pick(after.zero_gradient, images);
  outcome.original_margin = pick(before->margin, images);
  outcome.fixed_margin = pick(after.margin, images);
  model->evaluation.attack = std::move(outcome);
}

std::vector<MetricRecord> measure_metrics(const Evaluation& evaluation) {
  std::vector<MetricRecord> records;
  for (const Metric& metric : metrics()) {
    const MetricValue value = metric.compute(evaluation);
    records.push_back({metric.name, metric.unit, value.value, value.reason});
  }
  return records;
}

std::string predictions_csv(const SplitOutcome& outcome) {
  std::string text = "index,label,original,fixed\n";
  for (size_t i = 0; i < outcome.label.size(); ++i) {
    text += std::to_string(i) + ',' + std::to_string(outcome.label[i]) + ',' +
            std::to_string(outcome.original[i]) + ',' + std::to_string(outcome.fixed[i]) + '\n';
  }
  return text;
}

std::string attack_csv(const AttackOutcome& outcome) {
  const bool margin = !outcome.fixed_margin.empty();
  std::string text = "image,original,fixed,zero_gradient_original,zero_gradient";
  text += margin ? ",original_margin,fixed_margin\n" : "\n";
  for (size_t i = 0; i < outcome.image.size(); ++i) {
    text += std::to_string(outcome.image[i]);
    for (const auto* flags : {&outcome.original, &outcome.fixed, &outcome.zero_gradient_original,
                              &outcome.zero_gradient, &outcome.original_margin, &outcome.fixed_margin}) {
      if (flags->empty()) continue;
      text += (*flags)[i] != 0 ? ",1" : ",0";
    }
    text += '\n';
  }
  return text;
}

}  // namespace harness

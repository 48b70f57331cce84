#include "harness/measure/evaluate.hpp"

#include "harness/core/error.hpp"
#include "harness/measure/device.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/fast/input_gradient.hpp"

namespace harness {
namespace {

class Stopwatch {
 public:
  Stopwatch(at::Device device, double* seconds) : clock_(device), seconds_(seconds) {}
  ~Stopwatch() {
    try {
      *seconds_ += clock_.seconds();
    } catch (const std::exception&) {  // a broken device; the timed work reports it or has thrown already
    }
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  PhaseClock clock_;
  double* seconds_;
};

metrics::SplitOutcome outcome_of(const Subject& subject, const Original& original, const std::string& split,
                                 std::vector<int32_t> fixed) {
  return {subject.labels(split), original.classes(split), std::move(fixed), subject.groups(split)};
}

// The first images in the subject's attack order that both models classify correctly.
std::vector<int64_t> both_correct(const Subject& subject, const metrics::SplitOutcome& test) {
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

EvaluatedModel evaluated_model(const Subject& subject, metrics::SplitOutcome test,
                               std::optional<metrics::SplitOutcome> repair) {
  EvaluatedModel model;
  model.evaluation.classes = subject.data().info().classes;
  model.evaluation.no_attack_reason = "no_attack: the subject configures none";
  int64_t right = 0;
  for (size_t i = 0; i < test.label.size(); ++i) right += test.label[i] == test.fixed[i];
  model.accuracy = 100.0 * static_cast<double>(right) / static_cast<double>(test.label.size());
  model.evaluation.test = std::move(test);
  model.evaluation.repair = std::move(repair);
  return model;
}

std::string attack_limitation(const Subject& subject, const Network& network) {
  const at::Tensor x = subject.sample().narrow(0, 0, 2).to(network.device());
  try {
    InputGradient(network, InputGradient::Of::output)(
        x, [](const at::Tensor& values) { return at::ones_like(values); });
  } catch (const std::exception& error) {
    if (is_out_of_memory(error) || is_device_error(error)) throw;
    return "attack_impossible: no gradient with respect to the images: " + one_line(error);
  }
  return "";
}

EvaluatedModel evaluate_predictions(const Subject& subject, const Original& original, const Network& fixed) {
  double seconds = 0;
  std::string not_finite, random;
  const auto outcome = [&](const std::string& split) {
    Predictions predictions = predict(fixed, subject.data().split(split), subject.batch());
    if (not_finite.empty()) not_finite = predictions.not_finite;
    if (random.empty()) random = predictions.random;
    return outcome_of(subject, original, split, std::move(predictions.classes));
  };
  metrics::SplitOutcome test;
  std::optional<metrics::SplitOutcome> repair;
  {
    const Stopwatch watch(fixed.device(), &seconds);
    test = outcome("test");
    if (subject.data().has("repair")) repair = outcome("repair");
  }
  EvaluatedModel model = evaluated_model(subject, std::move(test), std::move(repair));
  model.not_finite = not_finite;
  model.random = random;
  model.phases["predict"] = seconds;
  return model;
}

void evaluate_attack(const Subject& subject, Original* original, const Network& fixed,
                     EvaluatedModel* model) {
  if (!subject.config().attack) return;
  for (const Network* one : {&subject.original(), &fixed}) {
    if (std::string limitation = attack_limitation(subject, *one); !limitation.empty()) {
      model->evaluation.no_attack_reason = std::move(limitation);
      return;
    }
  }
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
  metrics::AttackOutcome outcome;
  outcome.image = images;
  outcome.original = pick(before->success, images);
  outcome.fixed = pick(after.success, images);
  outcome.zero_gradient_original = pick(before->zero_gradient, images);
  outcome.zero_gradient = pick(after.zero_gradient, images);
  outcome.original_margin = pick(before->margin, images);
  outcome.fixed_margin = pick(after.margin, images);
  model->evaluation.attack = std::move(outcome);
}

std::vector<MetricRecord> measure_metrics(const metrics::Evaluation& evaluation) {
  std::vector<MetricRecord> records;
  for (const metrics::Metric& metric : metrics::all()) {
    const metrics::MetricValue value = metric.compute(evaluation);
    records.push_back({metric.name, metric.unit, value.value, value.reason});
  }
  return records;
}

}  // namespace harness

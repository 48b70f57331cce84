#include "harness/measure/subject.hpp"

#include <functional>
#include <limits>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/limits.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/device.hpp"
#include "harness/measure/random_output.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/fast/inference.hpp"

namespace harness {
namespace {

constexpr int64_t kSampleSize = 16;
constexpr int64_t kMegabyte = int64_t{1} << 20;
constexpr int64_t kPieceValues = int64_t{1} << 22;  // of images that are checked together
constexpr double kBoundsSlack = 1e-4;               // of their width, as people write bounds with few digits

template <typename T>
std::vector<T> to_vector(const at::Tensor& tensor, at::ScalarType type) {
  const at::Tensor flat = tensor.to(at::kCPU, type).contiguous();
  return {flat.data_ptr<T>(), flat.data_ptr<T>() + flat.numel()};
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;

  void take(const at::Tensor& values) {
    const auto [min_value, max_value] = values.aminmax();
    low = std::min(low, min_value.item<double>());
    high = std::max(high, max_value.item<double>());
  }
  std::string text() const { return "values from " + format_number(low) + " to " + format_number(high); }
};

// Calls take(images as stored) piece by piece, until it returns false.
void for_each_piece(const Split& split, const std::function<bool(const at::Tensor&)>& take) {
  const int64_t piece = std::max<int64_t>(1, kPieceValues / split.stored(0, 1).numel());
  for (int64_t begin = 0; begin < split.size(); begin += piece) {
    if (!take(split.stored(begin, std::min(begin + piece, split.size())))) return;
  }
}

void refuse_not_finite(const Network& network, const std::filesystem::path& file) {
  const std::vector<std::string> names = network.not_finite();
  if (names.empty()) return;
  const std::string more = names.size() > 1 ? ", as in " + std::to_string(names.size() - 1) + " more" : "";
  throw UserError(
      {file.string(), names.front(), "NaN or an infinite value" + more, "parameters that are finite", ""});
}

// Number of images of the largest split; no batch is larger.
int64_t largest_split(const Dataset& data) {
  int64_t largest = 1;
  for (const std::string& name : data.split_names()) largest = std::max(largest, data.split(name).size());
  return largest;
}

}  // namespace

double pixel_full_scale(const std::filesystem::path& file) {
  // The file is opened once more because the subject's own data may be limited (--limit).
  const Dataset data = Dataset::open(file, {}, 0);
  const bool bytes = data.info().stored_type == "uint8";
  Range range;
  for (const std::string& name : data.split_names()) {
    for_each_piece(data.split(name), [&](const at::Tensor& stored) {
      range.take(stored);
      return !bytes || range.high <= 1;
    });
  }
  if (range.low < 0 || range.high > 255) {
    throw UserError({file.string(), "/images", range.text(),
                     "0 to 1 or 0 to 255, as the attack's epsilon is in pixels (epsilon_unit)", ""});
  }
  return range.high > 1 ? 255 : 1;
}

at::Tensor sample_inputs(const Dataset& data) {
  for (const char* name : {"test", "repair", "validation", "train"}) {
    if (!data.has(name) || data.split(name).size() < 2) continue;
    return data.split(name).inputs(0, std::min(kSampleSize, data.split(name).size()));
  }
  throw UserError(
      {data.file().string(), "/", "no split with two images or more", "at least one such split", ""});
}

Subject::Subject(const SubjectConfig& subject, const Config& config, at::Device device)
    : start_((synchronise(device), std::chrono::steady_clock::now())),
      subject_(subject),
      data_(Dataset::open(subject.data, config.limit, config.resident_megabytes * kMegabyte)) {
  sample_ = sample_inputs(data_);
  original_ = Network::load(subject.model, sample_);
  if (original_->classes() != data_.info().classes) {
    throw UserError({subject.model.string(), "output", std::to_string(original_->classes()) + " classes",
                     std::to_string(data_.info().classes) + " classes, as " + subject.data.string() + " says",
                     "scripts/prepare counts classes and puts them in order: see its notes, --classes and "
                     "--class-order"});
  }
  original_->to(device);
  const auto working_batch = [&] {
    return std::min(config.batch.value_or(preferred_batch(*original_)), largest_split(data_));
  };
  original_->verify(sample_, working_batch());
  batch_ = working_batch();  // verify() may have made it a black box, which has another batch size
  check_original();
  group_names_ = data_.info().group_names;
  if (subject.groups) {
    if (group_names_.empty()) {
      throw UserError({subject.data.string(), "/group_names", "no sensitive groups",
                       "two groups, as the subject " + subject.name + " names them", ""});
    }
    group_names_ = *subject.groups;
  }
  for (const std::filesystem::path& file : subject.history) {
    const Network checkpoint = load_model(file);
    if (!checkpoint.importable()) {
      throw UserError({file.string(), "history", checkpoint.report().unknown_operator,
                       "a checkpoint of layers that can be imported", checkpoint.report().detail});
    }
    refuse_not_finite(checkpoint, file);
    auto& set = history_.emplace_back();
    for (const Parameter& parameter : checkpoint.parameters()) set[parameter.name] = parameter.value;
  }
  order_seed_ = derive_seed(config.seed, subject.name + "/attack/order");
  start_seed_ = derive_seed(config.seed, subject.name + "/attack/start");
  if (subject.attack && subject.attack->epsilon_in_pixels) {
    full_scale_ = pixel_full_scale(subject.data);
    if (const double epsilon = epsilon_in_inputs(); epsilon > kMaxNumber) {
      throw UserError({subject.data.string(), "/@std",
                       "values with which " + format_number(subject.attack->epsilon) + " pixel steps are " +
                           format_number(epsilon) + " of the network's input",
                       "at most " + format_number(kMaxNumber), ""});
    }
  }
  if (subject.attack && subject.attack->bounds && data_.has("test")) check_bounds();
  if (data_.has("test")) attack_order_ = RandomStream(order_seed_).permutation(data_.split("test").size());
  synchronise(device);
  load_seconds_ = seconds_since(start_);
}

UserError random_original(const std::filesystem::path& file, const std::string& why) {
  return UserError(
      {file.string(), "output", "answers that change: " + why,
       "the same output for an image each time and in any batch",
       "call model.eval() before tracing; F.dropout needs training=self.training, nn.BatchNorm2d "
       "track_running_stats=True, and forward() must write to no buffer"});
}

void Subject::check_original() const {
  refuse_not_finite(*original_, subject_.model);
  Invariant steady;
  try {
    steady = check_random_output(*original_, sample_, batch_);
  } catch (const std::exception& error) {
    if (is_out_of_memory(error) || is_device_error(error)) throw;
    throw UserError({subject_.model.string(), "forward()", one_line(error),
                     "a model that takes batches of any size", ""});
  }
  if (steady.holds) return;
  throw random_original(subject_.model, steady.detail);
}

void Subject::check_bounds() const {
  const auto& bounds = *subject_.attack->bounds;
  const double slack = kBoundsSlack * (bounds[1] - bounds[0]);
  const auto inside = [&](const Range& range) {
    return range.low >= bounds[0] - slack && range.high <= bounds[1] + slack;
  };
  const Split& test = data_.split("test");
  const DatasetInfo& info = data_.info();
  if (info.stored_type == "uint8") {  // the range of all bytes is mostly enough, without reading images
    Range possible;
    for (const uint8_t value : {uint8_t{0}, uint8_t{255}}) {
      possible.take(test.normalised(at::full({1, info.shape[0], 1, 1}, value, at::kByte)));
    }
    if (inside(possible)) return;
  }
  Range range;
  for_each_piece(test, [&](const at::Tensor& stored) {
    range.take(test.normalised(stored));
    return true;
  });
  if (inside(range)) return;
  throw UserError({subject_.data.string(), "/test/images", range.text() + " after normalisation",
                   "values within the attack's bounds [" + format_number(bounds[0]) + ", " +
                       format_number(bounds[1]) + "], which are in the network's input unit",
                   ""});
}

Network Subject::load_model(const std::filesystem::path& file) const {
  Network network = Network::load(file, sample_);
  if (network.classes() != data_.info().classes) {
    throw UserError({file.string(), "output", std::to_string(network.classes()) + " classes",
                     std::to_string(data_.info().classes) + " classes, as the original", ""});
  }
  network.to(original_->device());
  network.verify(sample_, batch_);
  return network;
}

std::vector<int32_t> Subject::labels(const std::string& split) const {
  return to_vector<int32_t>(data_.split(split).labels(), at::kInt);
}

std::vector<uint8_t> Subject::groups(const std::string& split) const {
  const at::Tensor& groups = data_.split(split).groups();
  return groups.defined() ? to_vector<uint8_t>(groups, at::kByte) : std::vector<uint8_t>();
}

// All channels have one epsilon, as in the study's attack. Where their std differ, the mean std counts.
double Subject::epsilon_in_inputs() const {
  const DatasetInfo& info = data_.info();
  if (!subject_.attack->epsilon_in_pixels) return subject_.attack->epsilon;
  double std_sum = 0;
  for (const double value : info.std) std_sum += value;
  const double std_mean = info.std.empty() ? 1 : std_sum / static_cast<double>(info.std.size());
  return subject_.attack->epsilon / (255 / full_scale_.value() * info.divisor * std_mean);
}

PgdOptions Subject::attack_options() const {
  if (!subject_.attack) interface_misuse("the subject " + subject_.name + " has no attack");
  const AttackConfig& attack = *subject_.attack;
  PgdOptions options;
  options.epsilon = epsilon_in_inputs();
  options.steps = attack.steps;
  if (attack.relative_step) options.relative_step = *attack.relative_step;
  options.random_start = attack.random_start;
  options.on_logits = attack.on_logits;
  options.seed = start_seed_;
  return options;
}

}  // namespace harness

#include "harness/run/subject.hpp"

#include "harness/core/error.hpp"
#include "harness/core/random.hpp"
#include "harness/model/inference.hpp"
#include "harness/run/device.hpp"

namespace harness {
namespace {

constexpr int64_t kSampleSize = 16;
constexpr int64_t kMegabyte = int64_t{1} << 20;

template <typename T>
std::vector<T> to_vector(const at::Tensor& tensor, at::ScalarType type) {
  const at::Tensor flat = tensor.to(at::kCPU, type).contiguous();
  return {flat.data_ptr<T>(), flat.data_ptr<T>() + flat.numel()};
}

}  // namespace

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
                     ""});
  }
  original_->to(device);
  batch_ = config.batch.value_or(preferred_batch(*original_));
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
      throw UserError({file.string(), "history", "operator " + checkpoint.report().unknown_operator,
                       "a checkpoint of layers that can be imported", ""});
    }
    auto& set = history_.emplace_back();
    for (const Parameter& parameter : checkpoint.parameters()) set[parameter.name] = parameter.value;
  }
  order_seed_ = derive_seed(config.seed, subject.name + "/attack/order");
  start_seed_ = derive_seed(config.seed, subject.name + "/attack/start");
  if (data_.has("test")) attack_order_ = RandomStream(order_seed_).permutation(data_.split("test").size());
  synchronise(device);
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

Network Subject::load_model(const std::filesystem::path& file) const {
  Network network = Network::load(file, sample_);
  if (network.classes() != data_.info().classes) {
    throw UserError({file.string(), "output", std::to_string(network.classes()) + " classes",
                     std::to_string(data_.info().classes) + " classes, as the original", ""});
  }
  network.to(original_->device());
  return network;
}

std::vector<int32_t> Subject::labels(const std::string& split) const {
  return to_vector<int32_t>(data_.split(split).labels(), at::kInt);
}

std::vector<uint8_t> Subject::groups(const std::string& split) const {
  const at::Tensor& groups = data_.split(split).groups();
  return groups.defined() ? to_vector<uint8_t>(groups, at::kByte) : std::vector<uint8_t>();
}

// One pixel step of 0..255 is 1 in stored units for uint8 images; float images are taken as 0..divisor.
// Channels have one epsilon (the study's attack knows no other), so channels of different std share that of
// the mean std.
double Subject::epsilon_in_inputs() const {
  const DatasetInfo& info = data_.info();
  if (!subject_.attack->epsilon_in_pixels) return subject_.attack->epsilon;
  double std_sum = 0;
  for (const double value : info.std) std_sum += value;
  const double std_mean = info.std.empty() ? 1 : std_sum / static_cast<double>(info.std.size());
  const double full_scale = info.stored_type == "uint8" ? info.divisor : 255;
  return subject_.attack->epsilon / (full_scale * std_mean);
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

#include "harness/measure/original.hpp"

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/measure/device.hpp"
#include "harness/store/sealed.hpp"

namespace harness {
namespace {

using nlohmann::json;

// Bytes of images, as floats, that are in memory at a time while attacking.
constexpr int64_t kSlabBytes = int64_t{256} << 20;

int64_t slab_images(const Subject& subject, const Network& network) {
  int64_t bytes = 4;
  for (const int64_t size : subject.data().info().shape) bytes *= size;
  const int64_t piece = std::max<int64_t>(preferred_piece(network), 1);
  return std::max<int64_t>(kSlabBytes / bytes / piece, 1) * piece;
}

void set_flags(const std::vector<int64_t>& images, const std::vector<uint8_t>& values,
               std::vector<uint8_t>* flags) {
  if (values.size() != images.size()) interface_misuse("the attack answers for another number of images");
  for (size_t i = 0; i < images.size(); ++i) (*flags)[static_cast<size_t>(images[i])] = values[i];
}

}  // namespace

AttackFlags no_flags(const Subject& subject) {
  const auto count = static_cast<size_t>(subject.data().split("test").size());
  AttackFlags flags;
  flags.success.assign(count, AttackFlags::kUnknown);
  flags.zero_gradient = flags.success;
  if (subject.config().attack->margin) flags.margin = flags.success;
  return flags;
}

void attack_images(const Subject& subject, const Network& network, PgdOptions options,
                   const std::vector<int64_t>& images, AttackFlags* flags) {
  const Split& test = subject.data().split("test");
  const int64_t slab = slab_images(subject, network);
  const auto keep_going = [] { return !stop_requested(); };
  for (size_t begin = 0; begin < images.size(); begin += static_cast<size_t>(slab)) {
    const size_t end = std::min(begin + static_cast<size_t>(slab), images.size());
    const std::vector<int64_t> part(images.begin() + static_cast<std::ptrdiff_t>(begin),
                                    images.begin() + static_cast<std::ptrdiff_t>(end));
    const at::Tensor indices = at::tensor(part, at::kLong);
    const at::Tensor x = test.inputs(indices).to(network.device());
    const at::Tensor labels = test.labels().index_select(0, indices).to(network.device());
    options.loss = AttackLoss::cross_entropy;
    const PgdResult plain = harness::attack(network, x, labels, part, options, keep_going);
    throw_if_stopped();
    set_flags(part, plain.success, &flags->success);
    set_flags(part, plain.zero_gradient, &flags->zero_gradient);
    if (flags->margin.empty()) continue;
    options.loss = AttackLoss::margin;
    const PgdResult margin = harness::attack(network, x, labels, part, options, keep_going);
    throw_if_stopped();
    set_flags(part, margin.success, &flags->margin);
  }
}

Original::Original(const Subject& subject, std::filesystem::path cache, std::string identity)
    : subject_(subject), cache_(std::move(cache)), identity_(std::move(identity)) {
  const Dataset& data = subject_.data();
  if (data.has("test") && subject_.config().attack) flags_ = no_flags(subject_);
  if (!load()) {
    const PhaseClock clock(subject_.original().device());
    for (const char* split : {"test", "repair"}) {
      if (!data.has(split)) continue;
      Predictions predictions = predict(subject_.original(), data.split(split), subject_.batch());
      if (not_finite_.empty()) not_finite_ = predictions.not_finite;
      if (random_.empty()) random_ = predictions.random;
      if (std::string(split) == "test") {
        low_ = predictions.low;
        high_ = predictions.high;
      }
      classes_[split] = std::move(predictions.classes);
    }
    predict_seconds_ = clock.seconds();
    save();
  }
  if (!not_finite_.empty()) {
    throw UserError({subject.config().model.string(), not_finite_, "",
                     "finite values in every layer on the test and repair splits", ""});
  }
  if (!random_.empty()) throw random_original(subject.config().model, random_);
  if (!data.has("test")) return;
  const std::vector<int32_t> labels = subject_.labels("test");
  for (const int64_t image : subject_.attack_order()) {
    const auto at = static_cast<size_t>(image);
    if (labels[at] == classes_["test"][at]) correct_.push_back(image);
  }
}

const std::vector<int32_t>& Original::classes(const std::string& split) const {
  return classes_.at(split);
}

int64_t Original::faults(const std::string& split) const {
  const std::vector<int32_t> labels = subject_.labels(split);
  const std::vector<int32_t>& classes = classes_.at(split);
  int64_t wrong = 0;
  for (size_t i = 0; i < labels.size(); ++i) wrong += labels[i] != classes[i];
  return wrong;
}

double Original::accuracy() const {
  const auto count = static_cast<double>(classes_.at("test").size());
  return 100.0 * (count - static_cast<double>(faults("test"))) / count;
}

PgdOptions Original::attack_options() const {
  PgdOptions options = subject_.attack_options();
  const auto& bounds = subject_.config().attack->bounds;
  options.low = bounds ? (*bounds)[0] : low_;
  options.high = bounds ? (*bounds)[1] : high_;
  return options;
}

const AttackFlags& Original::attack(const std::vector<int64_t>& images) {
  std::vector<uint8_t> wanted(flags_.success.size(), 0);
  for (const int64_t image : images) wanted[static_cast<size_t>(image)] = 1;
  PgdOptions options = attack_options();
  options.piece = std::max<int64_t>(preferred_piece(subject_.original()), 1);
  const auto piece = static_cast<size_t>(options.piece);
  std::vector<int64_t> missing;  // whole pieces; only the last piece of all may be shorter
  for (size_t begin = 0; begin < correct_.size(); begin += piece) {
    const size_t end = std::min(begin + piece, correct_.size());
    const auto first = correct_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = correct_.begin() + static_cast<std::ptrdiff_t>(end);
    const bool lacks = std::any_of(first, last, [&](int64_t image) {
      const auto at = static_cast<size_t>(image);
      return wanted[at] != 0 && flags_.success[at] == AttackFlags::kUnknown;
    });
    if (lacks) missing.insert(missing.end(), first, last);
  }
  if (missing.empty()) return flags_;
  attack_images(subject_, subject_.original(), options, missing, &flags_);
  save();
  return flags_;
}

bool Original::load() {
  if (cache_.empty() || !std::filesystem::exists(cache_)) return false;
  try {
    const json value = read_sealed(cache_);
    if (value.at("identity") != identity_) return false;
    for (const auto& [split, classes] : value.at("classes").items()) {
      classes_[split] = classes.get<std::vector<int32_t>>();
    }
    for (const std::string& split : {std::string("test"), std::string("repair")}) {
      const auto expected = subject_.data().has(split) ? subject_.data().split(split).size() : 0;
      if (static_cast<int64_t>(classes_[split].size()) != expected) throw std::runtime_error("sizes differ");
    }
    not_finite_ = value.at("not_finite");
    random_ = value.at("random");
    low_ = value.at("low");
    high_ = value.at("high");
    if (!subject_.data().has("test") || !subject_.config().attack) return true;
    const json& attacked = value.at("attacked");
    const auto images = attacked.at("image").get<std::vector<int64_t>>();
    const auto restore = [&](const char* name, std::vector<uint8_t>* flags) {
      const auto values = attacked.at(name).get<std::vector<uint8_t>>();
      if (values.size() != images.size()) throw std::runtime_error("sizes differ");
      for (size_t i = 0; i < images.size(); ++i) flags->at(static_cast<size_t>(images[i])) = values[i];
    };
    restore("success", &flags_.success);
    restore("zero_gradient", &flags_.zero_gradient);
    if (!flags_.margin.empty()) restore("margin", &flags_.margin);
    return true;
  } catch (const std::exception&) {  // damaged: it is only a cache
    classes_.clear();
    if (!flags_.success.empty()) flags_ = no_flags(subject_);
    return false;
  }
}

void Original::save() const {
  if (cache_.empty()) return;
  json attacked = {{"image", json::array()},
                   {"success", json::array()},
                   {"zero_gradient", json::array()},
                   {"margin", json::array()}};
  for (size_t i = 0; i < flags_.success.size(); ++i) {
    if (flags_.success[i] == AttackFlags::kUnknown) continue;
    attacked["image"].push_back(i);
    attacked["success"].push_back(flags_.success[i]);
    attacked["zero_gradient"].push_back(flags_.zero_gradient[i]);
    if (!flags_.margin.empty()) attacked["margin"].push_back(flags_.margin[i]);
  }
  const json value = {{"identity", identity_}, {"classes", classes_}, {"not_finite", not_finite_},
                      {"random", random_},     {"low", low_},         {"high", high_},
                      {"attacked", attacked}};
  make_folders(cache_.parent_path());
  write_sealed(cache_, value, -1);
}

}  // namespace harness

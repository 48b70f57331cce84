// Properties of what a fix gives back and of what it leaves behind.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>

#include "harness/core/files.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/conformance/properties.hpp"
#include "tests/conformance/situations.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU).contiguous();
  return {static_cast<const char*>(flat.const_data_ptr()), flat.nbytes()};
}

// The flat indices whose bits differ; both tensors have one shape and type.
std::vector<int64_t> changed_places(const at::Tensor& a, const at::Tensor& b) {
  const std::string left = bytes_of(a), right = bytes_of(b);
  const size_t size = a.element_size();
  std::vector<int64_t> places;
  for (size_t k = 0; k * size < left.size(); ++k) {
    if (std::memcmp(left.data() + k * size, right.data() + k * size, size) != 0)
      places.push_back(static_cast<int64_t>(k));
  }
  return places;
}

void compare(const Parameter& before, const at::Tensor& after, const Touched& touched,
             Complaints& complaints) {
  const std::vector<int64_t> changed = changed_places(before.value, after);
  if (changed.empty() || touched.everything) return;
  const auto declared = touched.weights.find(before.name);
  if (declared == touched.weights.end()) {
    complaints.push_back(before.name + " changed and is not declared");
    return;
  }
  if (declared->second.empty()) return;
  for (const int64_t place : changed) {
    if (std::ranges::count(declared->second, place) == 0)
      complaints.push_back(before.name + "[" + std::to_string(place) + "] changed and is not declared");
  }
}

// A digest of all that a fix may read and must not change, and of LibTorch's own state.
std::string surroundings(const Case& one, const FixContext::Setup& setup) {
  std::string text = one.network->digest();
  for (const Parameter& parameter : one.network->parameters())
    text += parameter.value.requires_grad() ? "g" : ".";
  for (const auto& set : setup.history) {
    for (const auto& [name, tensor] : set) text += name + digest_of(bytes_of(tensor));
  }
  for (const std::string& name : setup.data->split_names()) {
    const Split& split = setup.data->split(name);
    text += digest_of(bytes_of(split.labels())) + digest_of(bytes_of(split.inputs(0, split.size())));
  }
  text += " " + std::to_string(at::get_num_threads()) + (at::GradMode::is_enabled() ? "+" : "-");
  return text + digest_of(bytes_of(at::detail::getDefaultCPUGenerator().get_state()));
}

// What is written to a file descriptor while it lives.
class Captured {
 public:
  explicit Captured(int descriptor) : descriptor_(descriptor), kept_(dup(descriptor)) {
    flush();
    const int file =
        open((folder_ / "written").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (kept_ < 0 || file < 0 || dup2(file, descriptor_) < 0) throw std::runtime_error("cannot capture");
    close(file);
  }
  ~Captured() { end(); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  std::string end() {
    if (kept_ < 0) return "";
    flush();
    dup2(kept_, descriptor_);
    close(kept_);
    kept_ = -1;
    return read_text(folder_ / "written");
  }

 private:
  static void flush() {
    std::cout.flush();
    std::cerr.flush();
    std::fflush(nullptr);
  }
  TemporaryFolder folder_;
  int descriptor_, kept_;
};

int64_t work_of(const Observed& observed) {
  int64_t work = 0;
  for (const char* counter : {"evaluations", "optimiser_steps"}) {
    const auto found = observed.log.counters.find(counter);
    if (found != observed.log.counters.end()) work += found->second;
  }
  return work;
}

}  // namespace

Complaints touched_complaints(const Network& original, const FixResult& result) {
  Complaints complaints;
  if (!result.network) return {"no network: " + result.failure.code + ": " + result.failure.text};
  const Network& fixed = *result.network;
  if (fixed.classes() != original.classes()) complaints.push_back("another number of classes");
  for (const std::string& name : fixed.not_finite()) complaints.push_back(name + " is not finite");
  for (const Parameter& before : original.parameters()) {
    const ParameterId id = fixed.find_parameter(before.name);
    if (id < 0) {
      complaints.push_back(before.name + " is gone");
      continue;
    }
    const at::Tensor& after = fixed.parameters()[static_cast<size_t>(id)].value;
    if (after.sizes() != before.value.sizes() || after.scalar_type() != before.value.scalar_type()) {
      complaints.push_back(before.name + " has another shape or type");
    } else {
      compare(before, after, result.touched, complaints);
    }
  }
  for (const auto& [name, places] : result.touched.weights) {
    const ParameterId id = original.find_parameter(name);
    if (id < 0) complaints.push_back("declares " + name + ", which the original does not have");
    if (id < 0) continue;
    const int64_t size = original.parameters()[static_cast<size_t>(id)].value.numel();
    for (const int64_t place : places) {
      if (place < 0 || place >= size)
        complaints.push_back("declares " + name + "[" + std::to_string(place) + "], which is out of range");
    }
  }
  return complaints;
}

Complaints touched_complaints(const Case& one) {
  const Observed whole = observe(one);
  if (!whole.thrown.empty()) return {"threw " + whole.thrown};
  Complaints complaints = touched_complaints(*one.network, whole.result);
  for (const auto& [name, count] : whole.log.counters) {
    if (count < 0) complaints.push_back("the counter " + name + " is below 0");
  }
  if (!whole.log.running.empty()) complaints.push_back("a clock of a phase was left running");
  if (!whole.progress_is_a_share) complaints.push_back("progress is no share from 0 to 1 with a text");
  return complaints;
}

Complaints work_complaints(const Case& one) {
  Complaints complaints;
  const Observed whole = observe(one);
  const FixContext::Setup setup = one.setup();
  bool is_limited = false;
  int limits = 0;
  for (const char* name :
       {"generations", "iterations", "max_iters", "epochs", "rounds", "proposals", "steps"}) {
    const auto given = setup.hyperparameters.values().find(name);
    if (given == setup.hyperparameters.values().end() || !given->is_number_integer()) continue;
    if (given->get<int64_t>() < 2) continue;
    ++limits;
    const Observed less = observe(one, {.change = [&](FixContext::Setup& changed) {
                                    nlohmann::json values = changed.hyperparameters.values();
                                    values[name] = 1;
                                    changed.hyperparameters = Hyperparameters(values);
                                  }});
    if (!less.thrown.empty()) complaints.push_back(std::string(name) + " = 1: threw " + less.thrown);
    is_limited |= work_of(less) < work_of(whole);
    if (work_of(less) > work_of(whole)) {
      complaints.push_back(std::string(name) + " = 1 makes " + std::to_string(work_of(less)) +
                           " evaluations and steps, " + given->dump() + " only " +
                           std::to_string(work_of(whole)));
    }
  }
  if (limits > 0 && work_of(whole) > 0 && !is_limited)
    complaints.push_back("no parameter limits its evaluations or steps");
  const auto steps = whole.log.counters.find("optimiser_steps");
  for (const char* name : {"steps", "max_iters"}) {
    if (steps == whole.log.counters.end() || !setup.hyperparameters.values().contains(name)) continue;
    if (!setup.shadow.empty()) continue;  // CT:KEY makes as many as KEY
    if (steps->second > setup.hyperparameters.integer(name))
      complaints.push_back("makes more steps than " + std::string(name));
  }
  return complaints;
}

Complaints print_complaints(const Case& one) {
  Captured errors(2), output(1);
  refusal_of(one);
  observe(one);
  observe(one, {.stop_at = 2});
  Complaints complaints;
  for (Captured* stream : {&output, &errors}) {
    const std::string text = stream->end();
    if (!text.empty()) complaints.push_back("printed: " + text);
  }
  return complaints;
}

Complaints side_effect_complaints(const Case& one) {
  Complaints complaints;
  const FixContext::Setup setup = one.setup();
  const std::string before = surroundings(one, setup);
  const Observed whole =
      observe(one, {.change = [&](FixContext::Setup& changed) { changed.history = setup.history; }});
  if (!whole.thrown.empty()) complaints.push_back("threw " + whole.thrown);
  if (surroundings(one, setup) != before)
    complaints.push_back("the original, the data, the history or LibTorch's state is another one");
  for (const char* name : {"poisoned", "no_test"}) {
    const Observed other =
        observe(one, {.change = [&](FixContext::Setup& changed) { changed.data = &data_with(name); }});
    const bool same =
        other.result.network.has_value() == whole.result.network.has_value() &&
        (!whole.result.network || other.result.network->digest() == whole.result.network->digest());
    if (!same || other.log.counters != whole.log.counters || other.log.series != whole.log.series)
      complaints.push_back(std::string("the fix is another one with the test split ") + name);
  }
  return complaints;
}

}  // namespace harness::testing

#include "harness/run/fixing.hpp"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <new>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/model/cause.hpp"
#include "harness/run/device.hpp"
#include "harness/run/external.hpp"
#include "harness/run/process_memory.hpp"
#include "harness/run/stop.hpp"

namespace harness {
namespace {

using Clock = std::chrono::steady_clock;

std::string text_of(const Refusal& refusal) {
  return refusal.code + ": " + refusal.text;
}

bool holds_any(const std::string& text, std::initializer_list<const char*> signs) {
  return std::any_of(signs.begin(), signs.end(),
                     [&](const char* sign) { return text.find(sign) != std::string::npos; });
}

void fail(FixOutcome* outcome, const std::string& reason) {
  outcome->status = Status::failure;
  outcome->reason = reason;
}

constexpr std::chrono::milliseconds kMemoryPoll{100};  // reading it costs more than a cheap candidate
constexpr double kSaveShare = 0.05;                    // of a fix's time, at most, for its checkpoints

// Watches one fix: its clock, its memory, its budget, its checkpoints. Memory counts from here on.
class Watch {
 public:
  explicit Watch(const FixJob& job) : job_(job), device_(job.subject->original().device()) {
    forget_peak();
    forget_device_peak(device_);
    resident_before_ = resident_megabytes();
    on_device_before_ = device_memory(device_).megabytes;
    if (job.begun) job.begun(resident_before_);
  }

  double seconds() const { return job_.before.seconds + since(start_); }
  bool out_of_time() const { return job_.budget.seconds && seconds() > *job_.budget.seconds; }
  // Empty, or which limit does not hold. Stays as it is once one did not.
  const std::string& out_of_memory() {
    if (!over_.empty() || (!job_.budget.megabytes && !job_.budget.device_megabytes)) return over_;
    const Clock::time_point now = Clock::now();
    if (now - last_poll_ < kMemoryPoll) return over_;
    last_poll_ = now;
    if (job_.budget.megabytes && resident_megabytes() - resident_before_ > *job_.budget.megabytes) {
      over_ = format_number(*job_.budget.megabytes) + " MB";
    } else if (job_.budget.device_megabytes &&
               device_memory(device_).megabytes - on_device_before_ > *job_.budget.device_megabytes) {
      over_ = format_number(*job_.budget.device_megabytes) + " MB on the device";
    }
    return over_;
  }
  FixMemory memory() const {
    const double peak = std::max(peak_megabytes(), resident_megabytes());
    const double on_device = device_memory(device_).peak_megabytes;
    return {.peak = peak,
            .growth = std::max(0.0, peak - resident_before_),
            .device_peak = on_device,
            .device_growth = std::max(0.0, on_device - on_device_before_)};
  }
  bool should_stop() { return stop_requested() || out_of_time() || !out_of_memory().empty(); }

  bool due() const {
    return job_.save && since(last_save_) >= std::max(job_.checkpoint_seconds, save_seconds_ / kSaveShare);
  }
  void save(const CheckpointState& state, const FixLog& log) {
    if (!job_.save) return;
    const Clock::time_point begin = Clock::now();
    job_.save(state, {seconds(), log.phases_so_far(), job_.before.interruptions});
    last_save_ = Clock::now();
    save_seconds_ = since(begin);
  }

 private:
  static double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  const FixJob& job_;
  const at::Device device_;
  double resident_before_ = 0, on_device_before_ = 0;  // megabytes
  Clock::time_point start_ = Clock::now(), last_save_ = start_, last_poll_{};
  double save_seconds_ = 0;
  std::string over_;
};

FixContext context_of(const FixJob& job, Watch& watch) {
  FixContext::Setup setup;
  setup.info = &job.approach->info;
  setup.data = &job.subject->data();
  setup.parameters = *job.parameters;
  setup.shadow = job.shadow;
  setup.seed = job.seed;
  setup.stop = [&watch] { return watch.should_stop(); };
  setup.progress = job.progress;
  setup.checkpoint = {
      .load = [&job] { return job.resumed; },
      .save = [&watch](const CheckpointState& state, const FixLog& log) { watch.save(state, log); },
      .due = [&watch] { return watch.due(); }};
  setup.training = job.subject->config().training;
  setup.history = job.subject->history();
  setup.batch = job.subject->batch();
  return FixContext(std::move(setup));
}

// Libraries and kernels of both directions are loaded by their first use, which is no part of a fix. Models
// without a derivative are left at the forward pass.
void warm_up(const Subject& subject) {
  const Network& original = subject.original();
  const at::Tensor x = subject.sample().to(original.device());
  original.classify(x);
  const at::AutoGradMode record(true);
  try {
    Network copy = original.fork();
    copy.require_grad(true);
    const at::Tensor few = x.slice(0, 0, 2).clone().requires_grad_();
    const at::Tensor loss = copy.differentiable_logits(few).logsumexp(1).sum();
    if (loss.requires_grad()) loss.backward();
  } catch (const std::exception& error) {
    if (original.importable() || is_out_of_memory(error) || is_machine_trouble(error)) throw;
  }
  synchronise(original.device());
}

void take(FixResult result, const FixJob& job, Watch& watch, FixOutcome* outcome) {
  outcome->result = std::move(result);
  if (outcome->result.network) {
    outcome->result.network->to(job.subject->original().device());
    outcome->reason = outcome->result.note.empty() ? "" : "note: " + outcome->result.note;
  } else if (watch.out_of_time()) {
    fail(outcome, "timeout: no fix within " + format_number(*job.budget.seconds) + " s");
  } else if (!watch.out_of_memory().empty()) {
    fail(outcome, "out_of_memory: no fix within " + watch.out_of_memory());
  } else if (outcome->result.failure.code.empty()) {
    fail(outcome, "no_fix: the approach found none");
  } else {
    fail(outcome, text_of(outcome->result.failure));
  }
}

}  // namespace

std::string one_line(const std::exception& error) {
  return one_line(cause_of(error));
}

std::string one_line(const std::string& text) {
  std::istringstream words(text.substr(0, text.find('\n')));
  std::string result;
  for (std::string word; words >> word;) {
    const size_t slash = word.find_first_not_of("\"'(");
    if (slash != std::string::npos && word[slash] == '/')
      word = std::filesystem::path(word).filename().string();
    result += (result.empty() ? "" : " ") + word;
  }
  return result.empty() ? "an error without a text" : result;
}

RepairCounts count_repair(const std::vector<int32_t>& labels, const std::vector<int32_t>& classes) {
  std::map<std::pair<int32_t, int32_t>, int64_t> types;
  int64_t faults = 0;
  for (size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] == classes[n]) continue;
    ++faults;
    ++types[{labels[n], classes[n]}];
  }
  std::vector<int64_t> sizes;
  for (const auto& [pair, count] : types) sizes.push_back(count);
  return {faults, static_cast<int64_t>(labels.size()) - faults, std::move(sizes)};
}

// LibTorch's CPU allocator and the CUDA libraries throw a plain c10::Error.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         holds_any(error.what(),
                   {"not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED"});
}

bool is_machine_trouble(const std::exception& error) {
  if (is_out_of_memory(error)) return false;
  if (dynamic_cast<const c10::AcceleratorError*>(&error) != nullptr) return true;
  return holds_any(error.what(),
                   {"CUDA error", "CUDA driver error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS"});
}

std::optional<Refusal> why_unadaptable(const FixJob& job) {
  const auto& needs = job.external != nullptr ? job.external->needs : job.approach->info.needs;
  for (const std::string& split : needs) {
    if (!job.subject->data().has(split)) {
      return Refusal{"missing_split",
                     "the approach needs the split " + split + ", which the data does not have"};
    }
  }
  if (job.external != nullptr) return std::nullopt;
  const AdaptContext context{.network = job.subject->original(),
                             .data = job.subject->data(),
                             .parameters = *job.parameters,
                             .shadow = job.shadow,
                             .training = job.subject->config().training,
                             .history_size = job.subject->history().size(),
                             .repair_faults = job.repair.faults,
                             .repair_correct = job.repair.correct,
                             .repair_error_types = job.repair.error_types};
  std::optional<Refusal> refusal = job.approach->adapt(context);
  const ImportReport& report = context.network.report();
  if (refusal && !report.importable && refusal->text == report.unknown_operator && !report.detail.empty()) {
    refusal->text += " (" + report.detail + ")";
  }
  return refusal;
}

FixOutcome run_fix(const FixJob& job) {
  FixOutcome outcome;
  if (const auto refusal = why_unadaptable(job)) {
    outcome.status = Status::unadaptable;
    outcome.reason = text_of(*refusal);
    return outcome;
  }
  if (job.external != nullptr) return run_external(job);
  const at::Device device = job.subject->original().device();
  warm_up(*job.subject);
  const DeterminismWatch watch;
  Watch clock(job);
  FixContext context = context_of(job, clock);
  context.log().phases = job.before.phases;
  try {
    FixResult result = job.approach->fix(job.subject->original(), context);
    synchronise(device);
    outcome.seconds = clock.seconds();
    throw_if_stopped();
    take(std::move(result), job, clock, &outcome);
  } catch (const UserError&) {
    throw;
  } catch (const FixStopped&) {
    throw_if_stopped();
    outcome.seconds = clock.seconds();
    take({}, job, clock, &outcome);
  } catch (const std::exception& error) {
    throw_if_stopped();
    if (is_machine_trouble(error)) throw;
    outcome.seconds = clock.seconds();
    fail(&outcome, (is_out_of_memory(error) ? "out_of_memory: " : "crashed: ") + one_line(error));
  }
  outcome.memory = clock.memory();
  outcome.log = context.log();
  outcome.nondeterministic = watch.operators();
  return outcome;
}

}  // namespace harness

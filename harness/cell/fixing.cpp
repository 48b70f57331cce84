#include "harness/cell/fixing.hpp"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <new>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/process_memory.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/measure/device.hpp"
#include "harness/model/cause.hpp"

namespace harness::cell {
namespace {

using Clock = std::chrono::steady_clock;

std::string text_of(const Refusal& refusal) {
  return refusal.code + ": " + refusal.text;
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
  explicit Watch(const FixJob& job) : job_(job), device_(job.request.network->device()) {
    reset_peak();
    reset_device_peak(device_);
    resident_before_ = resident_megabytes();
    on_device_before_ = device_memory(device_).megabytes;
    if (job.begun) job.begun(resident_before_);
  }

  double seconds() const { return job_.before.seconds + seconds_since(start_); }
  bool out_of_time() const { return job_.budget.seconds && seconds() > *job_.budget.seconds; }
  // Which limit was passed, else empty. Once one was, that stays.
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
  bool should_stop() {
    if (cut_short_.empty())
      cut_short_ = out_of_time() ? format_number(*job_.budget.seconds) + " s" : out_of_memory();
    return stop_requested() || !cut_short_.empty();
  }
  // The budget because of which the fix was stopped; empty: none.
  const std::string& cut_short() const { return cut_short_; }

  bool due() const {
    return job_.save &&
           seconds_since(last_save_) >= std::max(job_.checkpoint_seconds, save_seconds_ / kSaveShare);
  }
  void save(const CheckpointState& state, const FixLog& log) {
    if (!job_.save) return;
    const Clock::time_point begin = Clock::now();
    job_.save(state, {seconds(), log.phases_so_far(), job_.before.interruptions});
    last_save_ = Clock::now();
    save_seconds_ = seconds_since(begin);
  }

 private:
  const FixJob& job_;
  const at::Device device_;
  std::string cut_short_;
  double resident_before_ = 0, on_device_before_ = 0;  // megabytes
  Clock::time_point start_ = Clock::now(), last_save_ = start_, last_poll_{};
  double save_seconds_ = 0;
  std::string over_;
};

FixContext context_of(const FixJob& job, Watch& watch) {
  FixContext::Setup setup{job.request};
  setup.stop = [&watch] { return watch.should_stop(); };
  setup.progress = job.progress;
  setup.checkpoint = {
      .load = [&job] { return job.resumed; },
      .save = [&watch](const CheckpointState& state, const FixLog& log) { watch.save(state, log); },
      .due = [&watch] { return watch.due(); }};
  return FixContext(std::move(setup));
}

// The first use of both directions loads libraries and kernels, which is no part of a fix. Models without a
// derivative do the forward pass alone.
void warm_up(const Network& original, const at::Tensor& sample) {
  const at::Tensor x = sample.to(original.device());
  original.classify(x);
  const at::AutoGradMode record(true);
  try {
    Network copy = original.fork();
    copy.require_grad(true);
    const at::Tensor few = x.slice(0, 0, 2).clone().requires_grad_();
    const at::Tensor loss = copy.differentiable_logits(few).logsumexp(1).sum();
    if (loss.requires_grad()) loss.backward();
  } catch (const std::exception& error) {
    if (original.importable() || is_out_of_memory(error) || is_device_error(error)) throw;
  }
  synchronise(original.device());
}

// As the subject names them, without the folders of this machine.
std::vector<std::string> names_of(const std::vector<std::filesystem::path>& files) {
  std::vector<std::string> names;
  for (const std::filesystem::path& file : files) names.push_back(file.filename().string());
  return names;
}

void take(FixResult result, const FixJob& job, Watch& watch, FixOutcome* outcome) {
  outcome->result = std::move(result);
  if (outcome->result.network) {
    outcome->result.network->to(job.request.network->device());
    outcome->reason = outcome->result.note.empty() ? "" : "note: " + outcome->result.note;
  } else if (outcome->result.unadaptable) {
    outcome->status = Status::unadaptable;
    outcome->reason = text_of(outcome->result.failure);
  } else if (job.approach->in_other_process) {  // which has its own clock and memory
    fail(outcome, text_of(outcome->result.failure));
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

FixJob fix_job(const Approach& approach, const Subject& subject, const ApproachConfig& entry,
               const RepairCounts& repair, uint64_t seed) {
  FixJob job;
  job.approach = &approach;
  job.request = {.info = &approach.info,
                 .network = &subject.original(),
                 .data = &subject.data(),
                 .hyperparameters = entry.hyperparameters,
                 .shadow = entry.shadow,
                 .seed = seed,
                 .batch = subject.batch(),
                 .training = subject.config().training,
                 .history = subject.history(),
                 .history_names = names_of(subject.config().history),
                 .repair_faults = repair.faults,
                 .repair_correct = repair.correct,
                 .repair_error_types = repair.error_types};
  job.sample = subject.sample();
  return job;
}

std::optional<Refusal> why_unadaptable(const FixJob& job) {
  const FixRequest& request = job.request;
  for (const std::string& split : request.info->needs) {
    if (!request.data->has(split)) {
      return Refusal{"missing_split",
                     "the approach needs the split " + split + ", which the data does not have"};
    }
  }
  std::optional<Refusal> refusal = job.approach->adapt(request);
  const ImportReport& report = request.network->report();
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
  const Network& original = *job.request.network;
  if (!job.approach->in_other_process) warm_up(original, job.sample);
  const DeterminismWatch watch;
  Watch clock(job);
  FixContext context = context_of(job, clock);
  context.log().phases = job.before.phases;
  try {
    FixResult result = job.approach->fix(original, context);
    synchronise(original.device());
    outcome.seconds = result.seconds ? job.before.seconds + *result.seconds : clock.seconds();
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
    if (is_device_error(error)) throw;
    outcome.seconds = clock.seconds();
    fail(&outcome, (is_out_of_memory(error) ? "out_of_memory: " : "crashed: ") + one_line(error));
  }
  if (!job.approach->in_other_process) {
    outcome.memory = clock.memory();
    outcome.cut_short = clock.cut_short();
  }
  outcome.log = context.log();
  outcome.nondeterministic = watch.operators();
  return outcome;
}

}  // namespace harness::cell

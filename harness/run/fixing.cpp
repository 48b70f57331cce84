#include "harness/run/fixing.hpp"

#include <c10/util/Exception.h>

#include <chrono>
#include <new>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/run/device.hpp"
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

// LibTorch's CPU allocator and the CUDA libraries throw a plain c10::Error.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         holds_any(error.what(),
                   {"not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED"});
}

void fail(FixOutcome* outcome, const std::string& reason) {
  outcome->status = Status::failure;
  outcome->reason = reason;
}

FixContext context_of(const FixJob& job, Clock::time_point start) {
  FixContext::Setup setup;
  setup.info = &job.approach->info;
  setup.data = &job.subject->data();
  setup.parameters = *job.parameters;
  setup.shadow = job.shadow;
  setup.seed = job.seed;
  setup.stop = [start, budget = job.budget_seconds] {
    return stop_requested() ||
           (budget && std::chrono::duration<double>(Clock::now() - start).count() > *budget);
  };
  setup.progress = job.progress;
  setup.checkpoint = {[] { return std::optional<CheckpointState>(); }, [](const CheckpointState&) {}};
  setup.training = job.subject->config().training;
  setup.history = job.subject->history();
  setup.batch = job.subject->batch();
  return FixContext(std::move(setup));
}

void take(FixResult result, const FixJob& job, FixOutcome* outcome) {
  outcome->result = std::move(result);
  if (outcome->result.network) {
    outcome->result.network->to(job.subject->original().device());
    outcome->reason = outcome->result.note.empty() ? "" : "note: " + outcome->result.note;
  } else if (job.budget_seconds && outcome->seconds > *job.budget_seconds) {
    fail(outcome, "timeout: no fix within " + format_number(*job.budget_seconds) + " s");
  } else if (outcome->result.failure.code.empty()) {
    fail(outcome, "no_fix: the approach found none");
  } else {
    fail(outcome, text_of(outcome->result.failure));
  }
}

}  // namespace

std::string one_line(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch != nullptr ? torch->what_without_backtrace() : error.what();
  text = text.substr(0, text.find('\n'));
  std::istringstream words(text);
  std::string result;
  for (std::string word; words >> word;) {
    const size_t slash = word.find_first_not_of("\"'(");
    if (slash != std::string::npos && word[slash] == '/')
      word = std::filesystem::path(word).filename().string();
    result += (result.empty() ? "" : " ") + word;
  }
  return result.empty() ? "an exception without a text" : result;
}

bool is_machine_trouble(const std::exception& error) {
  if (is_out_of_memory(error)) return false;
  return holds_any(error.what(),
                   {"CUDA error", "CUDA driver error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS"});
}

std::optional<Refusal> why_unadaptable(const FixJob& job) {
  for (const std::string& split : job.approach->info.needs) {
    if (!job.subject->data().has(split)) {
      return Refusal{"missing_split",
                     "the approach needs the split " + split + ", which the data does not have"};
    }
  }
  const AdaptContext context{.network = job.subject->original(),
                             .data = job.subject->data(),
                             .parameters = *job.parameters,
                             .shadow = job.shadow,
                             .training = job.subject->config().training,
                             .history_size = job.subject->history().size(),
                             .repair_faults = job.repair.faults,
                             .repair_correct = job.repair.correct};
  return job.approach->adapt(context);
}

FixOutcome run_fix(const FixJob& job) {
  FixOutcome outcome;
  if (const auto refusal = why_unadaptable(job)) {
    outcome.status = Status::unadaptable;
    outcome.reason = text_of(*refusal);
    return outcome;
  }
  const at::Device device = job.subject->original().device();
  job.subject->original().classify(job.subject->sample().to(device));  // warm-up
  synchronise(device);
  const DeterminismWatch watch;
  const Clock::time_point start = Clock::now();
  FixContext context = context_of(job, start);
  const auto stop_clock = [&] {
    synchronise(device);
    outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  };
  try {
    FixResult result = job.approach->fix(job.subject->original(), context);
    stop_clock();
    throw_if_stopped();
    take(std::move(result), job, &outcome);
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    throw_if_stopped();
    if (is_machine_trouble(error)) throw;
    outcome.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    fail(&outcome, (is_out_of_memory(error) ? "out_of_memory: " : "crashed: ") + one_line(error));
  }
  outcome.log = context.log();
  outcome.nondeterministic = watch.operators();
  return outcome;
}

}  // namespace harness

#include "harness/run/external.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/data/subset.hpp"
#include "harness/run/external_process.hpp"
#include "harness/run/external_report.hpp"
#include "harness/run/stop.hpp"

namespace harness {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kRequestSchema = 1;
constexpr std::chrono::milliseconds kPoll{20};
constexpr double kMemoryPoll = 0.2;  // seconds; every process of the machine is looked at
constexpr double kProgressPoll = 1;  // seconds
constexpr double kStopGrace = 10;    // seconds from SIGTERM to SIGKILL after a stop signal
constexpr double kLeastGrace = 2;    // seconds from SIGTERM to SIGKILL at the end of a budget, at least
constexpr double kGraceShare = 0.1;  // of the budget

struct Files {
  explicit Files(const fs::path& scratch)
      : folder(fs::absolute(scratch)),
        request(folder / "request.json"),
        data(folder / "data.h5"),
        output(folder / "fixed.pt"),
        report(folder / "report.json"),
        state(folder / "state") {}
  fs::path folder, request, data, output, report, state;
};

json number_or_null(const std::optional<double>& number) {
  return number ? json(*number) : json(nullptr);
}

json budget_left(const FixJob& job) {
  if (!job.budget.seconds && !job.budget.megabytes) return nullptr;
  std::optional<double> seconds = job.budget.seconds;
  if (seconds) seconds = std::max(0.0, *seconds - job.before.seconds);
  return {{"seconds", number_or_null(seconds)}, {"megabytes", number_or_null(job.budget.megabytes)}};
}

void prepare(const FixJob& job, const Files& files) {
  make_folders(files.state);
  for (const fs::path& left : {files.output, files.report}) {  // by an interrupted run
    std::error_code trouble;
    fs::remove_all(left, trouble);
    if (trouble) throw UserError({left.string(), "", trouble.message(), "a file that can be removed", ""});
  }
  std::vector<std::string> splits = job.external->needs;
  splits.insert(splits.end(), job.external->uses.begin(), job.external->uses.end());
  const SubjectConfig& subject = job.subject->config();
  json history = json::array();
  for (const fs::path& file : subject.history) history.push_back(fs::absolute(file).string());
  const json request = {{"schema", kRequestSchema},
                        {"model", fs::absolute(subject.model).string()},
                        {"data", files.data.string()},
                        {"splits", write_subset(job.subject->data(), splits, files.data)},
                        {"seed", job.seed},
                        {"device", job.subject->original().device().is_cuda() ? "cuda" : "cpu"},
                        {"threads", at::get_num_threads()},
                        {"batch", job.subject->batch()},
                        {"budget", budget_left(job)},
                        {"parameters", job.parameters->values()},
                        {"training", subject.training ? training_json(*subject.training) : json(nullptr)},
                        {"history", history},
                        {"output", files.output.string()},
                        {"report", files.report.string()},
                        {"state", files.state.string()}};
  write_atomically(files.request, request.dump(1) + "\n");
}

// Watches a program until it has ended, and sees to it that it does.
class Watch {
 public:
  Watch(const FixJob& job, ExternalProcess& process, Clock::time_point start)
      : job_(job), process_(process), start_(start) {}

  void until_its_end() {
    while (!process_.wait(kPoll)) {
      const double now = seconds();
      if (stop_requested() && !stopped_) {
        stopped_ = true;
        end_by(now + kStopGrace);
      } else if (job_.budget.seconds && now > *job_.budget.seconds && !out_of_time_) {
        out_of_time_ = true;
        end_by(now + std::max(kLeastGrace, kGraceShare * *job_.budget.seconds));
      }
      if (deadline_ && now > *deadline_) process_.kill();
      if (job_.budget.megabytes && now > last_memory_ + kMemoryPoll) {
        last_memory_ = now;
        out_of_memory_ = out_of_memory_ || process_.exceeds(*job_.budget.megabytes);
        if (out_of_memory_) process_.kill();
      }
      if (job_.progress && now > last_progress_ + kProgressPoll) {
        last_progress_ = now;
        job_.progress(job_.budget.seconds ? std::min(1.0, now / *job_.budget.seconds) : 0,
                      "an external program");
      }
    }
    seconds_ = seconds();
  }

  // Of the fix, with what interrupted runs took.
  double seconds() const {
    return seconds_.value_or(job_.before.seconds +
                             std::chrono::duration<double>(Clock::now() - start_).count());
  }
  bool out_of_time() const { return out_of_time_; }
  bool out_of_memory() const { return out_of_memory_; }

 private:
  void end_by(double deadline) {
    if (!deadline_) process_.terminate();
    deadline_ = std::min(deadline, deadline_.value_or(deadline));
  }

  const FixJob& job_;
  ExternalProcess& process_;
  Clock::time_point start_;
  std::optional<double> seconds_, deadline_;
  double last_memory_ = 0, last_progress_ = 0;
  bool stopped_ = false, out_of_time_ = false, out_of_memory_ = false;
};

void fail(FixOutcome* outcome, const std::string& reason) {
  outcome->status = Status::failure;
  outcome->reason = reason;
}

void take_model(const FixJob& job, const Files& files, FixOutcome* outcome) {
  std::error_code trouble;
  if (!fs::is_regular_file(files.output, trouble)) {
    fail(outcome,
         "crashed: no model: the report says ok, but there is no " + files.output.filename().string());
    return;
  }
  try {
    outcome->result.network = job.subject->load_model(files.output);
    outcome->result.touched.everything = true;
  } catch (const std::exception& error) {
    if (is_machine_trouble(error)) throw;
    fail(outcome, "crashed: broken model: " + one_line(error));
  }
}

void take(ExternalReport report, bool out_of_time, const FixJob& job, const Files& files,
          FixOutcome* outcome) {
  if (!report.reason.empty()) report.reason = one_line(report.reason);
  outcome->status = report.status;
  outcome->reason = report.reason;
  for (const auto& [phase, seconds] : report.phases) outcome->log.phases[phase] += seconds;
  outcome->log.counters = std::move(report.counters);
  outcome->log.scalars = std::move(report.scalars);
  if (report.status != Status::ok) return;
  if (out_of_time) report.reason += std::string(report.reason.empty() ? "" : "; ") + "stopped by its budget";
  outcome->result.note = report.reason;
  outcome->reason = report.reason.empty() ? "" : "note: " + report.reason;
  take_model(job, files, outcome);
}

}  // namespace

FixOutcome run_external(const FixJob& job) {
  FixOutcome outcome;
  const Files files(job.scratch);
  prepare(job, files);
  throw_if_stopped();
  std::vector<std::string> command = job.external->command;
  command.push_back(files.request.string());
  const Clock::time_point start = Clock::now();
  ExternalProcess process(command, files.folder);
  Watch watch(job, process, start);
  watch.until_its_end();
  throw_if_stopped();
  outcome.seconds = watch.seconds();
  outcome.log.phases = job.before.phases;
  // An orderly end within the grace counts: a program may well have a fix by then.
  const bool no_report = !fs::exists(files.report);
  if (watch.out_of_memory()) {
    fail(&outcome, "out_of_memory: no fix within " + format_number(*job.budget.megabytes) + " MB");
  } else if (watch.out_of_time() && (!process.succeeded() || no_report)) {
    fail(&outcome, "timeout: no fix within " + format_number(*job.budget.seconds) + " s");
    // with a larger budget it goes on from what is in its state folder
    if (job.save) job.save({}, {outcome.seconds, outcome.log.phases, job.before.interruptions});
  } else if (!process.succeeded()) {
    fail(&outcome, "crashed: " + process.ending());
  } else {
    try {
      take(read_report(files.report), watch.out_of_time(), job, files, &outcome);
    } catch (const UserError& error) {
      fail(&outcome, "crashed: " + to_text(error.problems().front()));
    }
  }
  return outcome;
}

}  // namespace harness

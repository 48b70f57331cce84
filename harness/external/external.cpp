#include "harness/external/external.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/data/subset.hpp"
#include "harness/external/external_process.hpp"
#include "harness/external/external_report.hpp"
#include "harness/model/cause.hpp"

namespace harness::external {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kRequestSchema = 1;
constexpr std::chrono::milliseconds kPoll{20};
constexpr double kMemoryPoll = 0.2;  // seconds; every process of the machine is looked at
constexpr double kProgressPoll = 1;  // seconds
constexpr double kStopGrace = 10;    // seconds from SIGTERM to SIGKILL after a stop signal
constexpr double kMinGrace = 2;      // seconds from SIGTERM to SIGKILL at the end of a budget, at least
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

json budget_left(const ExternalSetting& setting) {
  const Budget& budget = setting.budget;
  if (!budget.seconds && !budget.megabytes) return nullptr;
  std::optional<double> seconds = budget.seconds;
  if (seconds) seconds = std::max(0.0, *seconds - setting.seconds_before);
  return {{"seconds", number_or_null(seconds)}, {"megabytes", number_or_null(budget.megabytes)}};
}

void prepare(const ExternalSetting& setting, const FixRequest& fix, const Files& files) {
  make_folders(files.state);
  for (const fs::path& left : {files.output, files.report}) {  // by an interrupted run
    std::error_code error;
    fs::remove_all(left, error);
    if (error) throw UserError({left.string(), "", error.message(), "a file that can be removed", ""});
  }
  std::vector<std::string> splits = fix.info->needs;
  splits.insert(splits.end(), fix.info->uses.begin(), fix.info->uses.end());
  json history = json::array();
  for (const fs::path& file : setting.subject.history) history.push_back(fs::absolute(file).string());
  const json request = {{"schema", kRequestSchema},
                        {"model", fs::absolute(setting.subject.model).string()},
                        {"data", files.data.string()},
                        {"splits", write_subset(*fix.data, splits, files.data)},
                        {"seed", fix.seed},
                        {"device", fix.network->device().is_cuda() ? "cuda" : "cpu"},
                        {"threads", at::get_num_threads()},
                        {"batch", fix.batch},
                        {"budget", budget_left(setting)},
                        {"parameters", fix.hyperparameters.values()},
                        {"training", fix.training ? training_json(*fix.training) : json(nullptr)},
                        {"history", history},
                        {"output", files.output.string()},
                        {"report", files.report.string()},
                        {"state", files.state.string()}};
  write_atomically(files.request, request.dump(1) + "\n");
}

// Watches a program until it has ended, and sees to it that it does.
class Watch {
 public:
  Watch(const ExternalSetting& setting, const FixContext& context, ExternalProcess& process)
      : setting_(setting), context_(context), process_(process) {}

  void until_its_end() {
    const Budget& budget = setting_.budget;
    while (!process_.wait(kPoll)) {
      const double now = seconds_so_far();
      if (stop_requested() && !stopped_) {
        stopped_ = true;
        end_by(now + kStopGrace);
      } else if (budget.seconds && now > *budget.seconds && !out_of_time_) {
        out_of_time_ = true;
        end_by(now + std::max(kMinGrace, kGraceShare * *budget.seconds));
      }
      if (deadline_ && now > *deadline_) process_.kill();
      if (budget.megabytes && now > last_memory_ + kMemoryPoll) {
        last_memory_ = now;
        out_of_memory_ = out_of_memory_ || process_.exceeds(*budget.megabytes);
        if (out_of_memory_) process_.kill();
      }
      if (now > last_progress_ + kProgressPoll) {
        last_progress_ = now;
        context_.progress(budget.seconds ? std::min(1.0, now / *budget.seconds) : 0, "an external program");
      }
    }
    seconds_ = seconds_so_far() - setting_.seconds_before;
  }
  double seconds() const { return seconds_; }  // of the process, once it has ended
  bool out_of_time() const { return out_of_time_; }
  bool out_of_memory() const { return out_of_memory_; }

 private:
  // Of the fix, with what interrupted runs took.
  double seconds_so_far() const { return setting_.seconds_before + seconds_since(start_); }
  void end_by(double deadline) {
    if (!deadline_) process_.terminate();
    deadline_ = std::min(deadline, deadline_.value_or(deadline));
  }

  const ExternalSetting& setting_;
  const FixContext& context_;
  ExternalProcess& process_;
  Clock::time_point start_ = Clock::now();
  std::optional<double> deadline_;
  double seconds_ = 0, last_memory_ = 0, last_progress_ = 0;
  bool stopped_ = false, out_of_time_ = false, out_of_memory_ = false;
};

// "code: text", as in a report or a reason.
Refusal refusal_of(const std::string& reason) {
  const size_t colon = reason.find(": ");
  return colon == std::string::npos ? Refusal{reason, ""}
                                    : Refusal{reason.substr(0, colon), reason.substr(colon + 2)};
}

void take_model(const ExternalSetting& setting, const Files& files, FixResult* result) {
  std::error_code error;
  if (!fs::is_regular_file(files.output, error)) {
    result->failure = {"crashed",
                       "no model: the report says ok, but there is no " + files.output.filename().string()};
    return;
  }
  try {
    result->network = setting.load_model(files.output);
    result->touched.everything = true;
  } catch (const std::exception& error_of_model) {
    if (is_device_error(error_of_model)) throw;
    result->failure = {"crashed", "broken model: " + one_line(error_of_model)};
  }
}

void take(ExternalReport report, bool out_of_time, const ExternalSetting& setting, const Files& files,
          FixLog& log, FixResult* result) {
  if (!report.reason.empty()) report.reason = one_line(report.reason);
  for (const auto& [phase, seconds] : report.phases) log.phases[phase] += seconds;
  log.counters = std::move(report.counters);
  log.scalars = std::move(report.scalars);
  if (report.status != ExternalReport::Status::ok) {
    result->unadaptable = report.status == ExternalReport::Status::unadaptable;
    result->failure = refusal_of(report.reason);
    return;
  }
  if (out_of_time) report.reason += std::string(report.reason.empty() ? "" : "; ") + "stopped by its budget";
  result->note = report.reason;
  take_model(setting, files, result);
}

FixResult fix(const ExternalProgram& program, const ExternalSetting& setting, FixContext& context) {
  const Files files(setting.scratch);
  prepare(setting, context.request(), files);
  throw_if_stopped();
  std::vector<std::string> command = program.command;
  command.push_back(files.request.string());
  ExternalProcess process(command, files.folder);
  Watch watch(setting, context, process);
  watch.until_its_end();
  if (stop_requested()) context.save_checkpoint({});  // the program itself knows how to go on
  throw_if_stopped();

  FixResult result;
  result.seconds = watch.seconds();
  // An orderly end within the grace counts: a program may well have a fix by then.
  const bool no_report = !fs::exists(files.report);
  if (watch.out_of_memory()) {
    result.failure = {"out_of_memory", "no fix within " + format_number(*setting.budget.megabytes) + " MB"};
  } else if (watch.out_of_time() && (!process.succeeded() || no_report)) {
    result.failure = {"timeout", "no fix within " + format_number(*setting.budget.seconds) + " s"};
    // with a larger budget it goes on from what is in its state folder
    context.save_checkpoint({});
  } else if (!process.succeeded()) {
    result.failure = {"crashed", process.ending()};
  } else {
    try {
      take(read_report(files.report), watch.out_of_time(), setting, files, context.log(), &result);
    } catch (const UserError& error) {
      result.failure = {"crashed", to_text(error.problems().front())};
    }
  }
  return result;
}

}  // namespace

Approach external_approach(const ApproachConfig& entry, ExternalSetting setting) {
  if (!entry.external) interface_misuse("approach " + entry.key + " is no external program");
  Approach approach;
  approach.info = {.key = entry.key, .name = entry.name, .level = entry.level};
  approach.info.needs = entry.external->needs;
  approach.info.uses = entry.external->uses;
  approach.adapt = [](const FixRequest&) { return std::nullopt; };
  approach.fix = [program = *entry.external, setting = std::move(setting)](
                     const Network&, FixContext& context) { return fix(program, setting, context); };
  approach.in_other_process = true;
  return approach;
}

}  // namespace harness::external

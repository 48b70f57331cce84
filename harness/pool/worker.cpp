#include "harness/pool/worker.hpp"
#include "harness/model/cause.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <iostream>
#include <memory>

#include "harness/cell/cell.hpp"
#include "harness/cell/cell_log.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/pool/machine.hpp"
#include "harness/pool/protocol.hpp"
#include "harness/pool/worker_process.hpp"
#include "harness/store/lease.hpp"

namespace harness {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr std::chrono::milliseconds kProgressInterval{500};
constexpr std::chrono::seconds kLogInterval{60};  // between two lines of progress in a cell's log

void reply(const json& message) {
  const std::string line = message.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::write(WorkerProcess::kReplies, line.data() + sent, line.size() - sent);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) std::_Exit(1);  // nobody is there any more
    sent += static_cast<size_t>(count);
  }
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

class Worker {
 public:
  void start(const json& request) {
    config_ = read_config_value(request.at("config"), "the planner's configuration", approach_catalog());
    config_.limit = request.at("limit").get<std::map<std::string, int64_t>>();
    tree_ = std::make_unique<ResultsTree>(request.at("results").get<std::string>());
    workers_ = request.at("workers");
    require_one_openmp();
    device_ = choose_device(request.at("device"));
    apply_switches(config_, device_, request.at("threads"));
    reply({{"ready", {{"device", device_name(device_.first())}}}});
  }

  // Keeps the last subject opened: with one subject nothing is read twice.
  void probe(const json& request) {
    std::vector<Problem> problems;
    for (const json& one : request.at("entries")) {
      const PlanEntry entry = plan_entry(config_, one);
      try {
        open(entry);
        if (entry.approach == nullptr) subject_->load_model(entry.published);
      } catch (const UserError& error) {
        for (const Problem& problem : error.problems()) problems.push_back(problem);
      }
    }
    reply({{"probed", {{"problems", to_json(problems)}}}});
  }

  void cell(const json& request) {
    const PlanEntry entry = plan_entry(config_, request.at("entry"));
    const auto fail = [](const std::string& why, bool of_file) {
      reply({{"failed", {{"why", why}, {"of_file", of_file}}}});
    };
    try {
      const CellLog log(tree_->cell(entry.planned.cell));
      try {
        reply({{"part", {{"name", "load"}, {"spent", 0}}}});
        open_original(entry);
        compute(entry, request, log);
      } catch (const Interrupted&) {
        log.line("interrupted");
        reply({{"interrupted", true}});
      } catch (const LeaseLost&) {
        log.line("left to another process, which has taken this cell over");
        reply({{"lost", true}});
      } catch (const std::exception& error) {
        log.line("no result: " + std::string(error.what()));
        throw;
      }
    } catch (const UserError& error) {
      fail(error.what(), true);
    } catch (const std::filesystem::filesystem_error& error) {
      fail(one_line(error), true);
    } catch (const std::exception& error) {
      fail(one_line(error), false);
    }
  }

  void check() {
    exercise_device(device_.first());
    reply({{"well", true}});
  }

 private:
  void open(const PlanEntry& entry) {
    if (subject_ && subject_name_ == entry.subject->name) return;
    original_.reset();
    subject_.reset();
    subject_ = std::make_unique<Subject>(*entry.subject, config_, device_.first());
    subject_name_ = entry.subject->name;
  }

  void open_original(const PlanEntry& entry) {
    open(entry);
    if (original_) return;
    json identity = entry.planned.identity;
    for (const char* gone : {"approach", "version", "seed", "corrupted_below", "metrics"})
      identity.erase(gone);
    identity["subject"].erase("training");
    identity["files"] = {{"model", identity["files"]["model"]}, {"data", identity["files"]["data"]}};
    const std::filesystem::path folder = tree_->subject(entry.subject->name);
    remove_half_written(folder);
    original_ = std::make_unique<Original>(*subject_, folder / "original.json", digest_of(identity.dump()));
    predict_original_ = original_->predict_seconds();
  }

  void compute(const PlanEntry& entry, const json& request, const CellLog& log) {
    const Clock::time_point start = Clock::now();
    Clock::time_point last_reply = start, last_line = start;
    const CellContext context{
        .config = config_,
        .subject = *subject_,
        .original = *original_,
        .tree = *tree_,
        .device_name = device_name(device_.first()),
        .predict_original = std::exchange(predict_original_, 0),
        .workers = workers_,
        .lease = request.at("lease"),
        .redo = request.at("redo"),
        .progress =
            [&](double done, const std::string& what) {
              const Clock::time_point now = Clock::now();
              if (now - last_reply < kProgressInterval) return;
              last_reply = now;
              reply({{"progress", {{"done", done}, {"what", what}}}});
              if (now - last_line < kLogInterval) return;
              last_line = now;
              log.line(std::to_string(std::lround(100 * done)) + " % " + what);
            },
        .begin =
            [&](const std::string& part, double spent) {
              log.line(part + (spent > 0 ? ", going on after " + seconds_text(spent) : ""));
              reply({{"part", {{"name", part}, {"spent", spent}}}});
            },
        .fix_begun =
            [](double megabytes) {
              reply({{"fix_begun", {{"resident", megabytes}}}});
            }};
    const CellOutcome outcome = run_cell(context, entry, reuse_named(request.at("reuse")));
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    json computed = json::array();
    for (const Stage stage : outcome.computed) computed.push_back(to_text(stage));
    log.line(std::string(to_text(outcome.record.status)) + " in " + seconds_text(seconds) +
             (outcome.record.reason.empty() ? "" : ", " + outcome.record.reason));
    reply({{"finished",
            {{"status", to_text(outcome.record.status)},
             {"reason", outcome.record.reason},
             {"mistrusted", outcome.record.mistrusted()},
             {"seconds", seconds},
             {"computed", computed}}}});
  }

  Config config_;
  std::unique_ptr<ResultsTree> tree_;
  DeviceChoice device_;
  int64_t workers_ = 1;
  std::string subject_name_;
  std::unique_ptr<Subject> subject_;
  std::unique_ptr<Original> original_;
  double predict_original_ = 0;
};

}  // namespace

int run_worker() {
  const bool has_planner = ::fcntl(WorkerProcess::kReplies, F_SETFD, FD_CLOEXEC) == 0;
  if (!has_planner) {
    throw UserError(
        {"command line", "", "\"worker\"", "another command: harness run starts its workers itself", ""});
  }
  if (!die_with_parent()) return 1;
  ::signal(SIGPIPE, SIG_IGN);
  install_stop_signals(false);
  Worker worker;
  for (std::string line; std::getline(std::cin, line);) {
    const json request = json::parse(line);
    const std::string what = request.at("do");
    try {
      if (what == "start") worker.start(request);
      if (what == "probe") worker.probe(request);
      if (what == "cell") worker.cell(request);
      if (what == "check") worker.check();
    } catch (const UserError& error) {
      reply({{"refused", {{"problems", to_json(error.problems())}}}});
    } catch (const std::exception& error) {
      reply({{"failed", {{"why", one_line(error)}, {"of_file", false}}}});
    }
  }
  return 0;
}

}  // namespace harness

#include "harness/pool/worker.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <iostream>
#include <memory>

#include "harness/cell/cell.hpp"
#include "harness/cell/cell_log.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/model/cause.hpp"
#include "harness/pool/machine.hpp"
#include "harness/pool/protocol.hpp"
#include "harness/pool/worker_process.hpp"
#include "harness/store/lease.hpp"

namespace harness::pool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kProgressInterval{500};
constexpr std::chrono::seconds kLogInterval{60};  // between two lines of progress in a cell's log

void send(const Reply& reply) {
  const std::string line = to_line(reply) + "\n";
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
  void handle(const StartWorker& request) {
    config_ = read_config_value(request.configuration, "the planner's configuration", approach_catalog());
    config_.limit = request.limit;
    tree_ = std::make_unique<ResultsTree>(request.results);
    workers_ = request.workers;
    require_one_openmp();
    device_ = choose_device(request.device);
    apply_switches(config_, device_, request.threads);
    send(WorkerReady{device_name(device_.first())});
  }

  // Keeps the last subject opened: with one subject nothing is read twice.
  void handle(const ProbeEntries& request) {
    std::vector<Problem> problems;
    for (const CellEntry& one : request.entries) {
      const plan::PlanEntry entry = plan_entry(config_, one);
      try {
        open(entry);
        if (entry.approach == nullptr) subject_->load_model(entry.published);
      } catch (const UserError& error) {
        for (const Problem& problem : error.problems()) problems.push_back(problem);
      }
    }
    send(EntriesProbed{std::move(problems)});
  }

  void handle(const ComputeCell& request) {
    const plan::PlanEntry entry = plan_entry(config_, request.entry);
    try {
      const cell::CellLog log(tree_->cell(entry.planned.cell));
      try {
        send(PartBegun{.name = "load"});
        open_original(entry);
        compute(entry, request, log);
      } catch (const Interrupted&) {
        log.line("interrupted");
        send(CellInterrupted{});
      } catch (const LeaseLost&) {
        log.line("left to another process, which has taken this cell over");
        send(CellLost{});
      } catch (const std::exception& error) {
        log.line("no result: " + std::string(error.what()));
        throw;
      }
    } catch (const UserError& error) {
      send(RequestFailed{error.what(), true});
    } catch (const std::filesystem::filesystem_error& error) {
      send(RequestFailed{one_line(error), true});
    } catch (const std::exception& error) {
      send(RequestFailed{one_line(error), false});
    }
  }

  void handle(const CheckDevice&) {
    exercise_device(device_.first());
    send(DeviceWorks{});
  }

 private:
  void open(const plan::PlanEntry& entry) {
    if (subject_ && subject_name_ == entry.subject->name) return;
    original_.reset();
    subject_.reset();
    subject_ = std::make_unique<Subject>(*entry.subject, config_, device_.first());
    subject_name_ = entry.subject->name;
  }

  void open_original(const plan::PlanEntry& entry) {
    open(entry);
    if (original_) return;
    const std::string identity = digest_of(entry.planned.identity.of_original().dump());
    const std::filesystem::path folder = tree_->subject(entry.subject->name);
    remove_half_written(folder);
    original_ = std::make_unique<Original>(*subject_, folder / "original.json", identity);
    predict_original_ = original_->predict_seconds();
  }

  void compute(const plan::PlanEntry& entry, const ComputeCell& request, const cell::CellLog& log) {
    const Clock::time_point start = Clock::now();
    Clock::time_point last_reply = start, last_line = start;
    const cell::CellContext context{
        .config = config_,
        .subject = *subject_,
        .original = *original_,
        .tree = *tree_,
        .device_name = device_name(device_.first()),
        .predict_original = std::exchange(predict_original_, 0),
        .workers = workers_,
        .lease = request.lease,
        .redo = request.redo,
        .progress =
            [&](double done, const std::string& what) {
              const Clock::time_point now = Clock::now();
              if (now - last_reply < kProgressInterval || !std::isfinite(done)) return;
              last_reply = now;
              send(CellProgress{done, what});
              if (now - last_line < kLogInterval) return;
              last_line = now;
              log.line(std::to_string(std::lround(100 * done)) + " % " + what);
            },
        .begin =
            [&](const cell::CellPart& part) {
              log.line(part.name + (part.spent > 0 ? ", going on after " + seconds_text(part.spent) : ""));
              send(PartBegun{part.name, part.spent, part.keeps_own_budget});
            },
        .fix_begun = [](double megabytes) { send(FixBegun{megabytes}); }};
    const Record record = cell::run_cell(context, entry, request.reuse);
    const double seconds = seconds_since(start);
    log.line(std::string(to_text(record.status)) + " in " + seconds_text(seconds) +
             (record.reason.empty() ? "" : ", " + record.reason));
    send(CellFinished{record.status, record.reason, record.mistrusted(), seconds});
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
    try {
      std::visit([&](const auto& request) { worker.handle(request); }, read_request(line));
    } catch (const UserError& error) {
      send(RequestRefused{error.problems()});
    } catch (const std::exception& error) {
      send(RequestFailed{one_line(error), false});
    }
  }
  return 0;
}

}  // namespace harness::pool

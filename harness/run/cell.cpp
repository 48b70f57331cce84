#include "harness/run/cell.hpp"

#include <chrono>

#include "harness/core/files.hpp"
#include "harness/run/checks.hpp"
#include "harness/run/evaluate.hpp"
#include "harness/run/provenance.hpp"
#include "harness/run/stop.hpp"

namespace harness {
namespace {

using Clock = std::chrono::steady_clock;

// As many test images as the reload check compares.
constexpr int64_t kReloadImages = 1000;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class CellRun {
 public:
  CellRun(const CellContext& context, const PlanEntry& entry)
      : context_(context), entry_(entry), folder_(context.tree.cell(entry.planned.cell)) {
    record_.cell = entry.planned.cell;
    record_.key = entry.planned.key;
    record_.name = entry.planned.name;
    record_.level = entry.planned.level;
    record_.in_study = entry.planned.in_study;
    record_.seed = entry.planned.seed;
    record_.digest = entry.planned.digest();
    record_.limited = !context.config.limit.empty();
    record_.classes = context.subject.data().info().classes;
    record_.group_names = context.subject.group_names();
    record_.device = context.device_name;
  }

  Record run() {
    make_folders(folder_);
    if (!context_.subject.data().has("test")) {
      record_.status = Status::unadaptable;
      record_.reason = "missing_split: the evaluation needs the split test, which the data does not have";
    } else if (entry_.approach != nullptr) {
      fix();
    } else {
      load_published();
    }
    if (network_) evaluate();
    write();
    return std::move(record_);
  }

 private:
  void fix() {
    const FixJob job = {.approach = find_approach(entry_.approach->key),
                        .parameters = &entry_.approach->parameters,
                        .shadow = entry_.approach->shadow,
                        .subject = &context_.subject,
                        .repair = repair_counts(),
                        .seed = entry_.planned.seed,
                        .budget_seconds = budget_of(context_.config, entry_),
                        .progress = context_.progress};
    FixOutcome outcome = run_fix(job);
    record_.status = outcome.status;
    record_.reason = outcome.reason;
    record_.phases["load"] = context_.subject.load_seconds();
    if (outcome.status != Status::unadaptable) record_.phases["fix"] = outcome.seconds;
    for (const auto& [phase, seconds] : outcome.log.phases) record_.phases["fix_" + phase] = seconds;
    record_.counters = outcome.log.counters;
    record_.scalars = outcome.log.scalars;
    record_.series = outcome.log.series;
    nondeterministic_ = outcome.nondeterministic;
    if (!outcome.result.network || outcome.status != Status::ok) return;
    network_ = std::move(outcome.result.network);
    const Clock::time_point start = Clock::now();
    record_.invariants =
        check_parameters(context_.subject.original(), *network_, outcome.result.touched, &record_.counters);
    saved_.emplace(folder_ / "fixed.pt");
    network_->save(saved_->temporary());
    record_.phases["save"] = seconds_since(start);
  }

  void load_published() {
    const Clock::time_point start = Clock::now();
    network_ = context_.subject.load_model(entry_.published);
    record_.phases["load"] = seconds_since(start);
  }

  RepairCounts repair_counts() const {
    if (!context_.subject.data().has("repair")) return {};
    const int64_t faults = context_.original.faults("repair");
    return {faults, context_.subject.data().split("repair").size() - faults};
  }

  void evaluate() {
    DeterminismWatch watch;
    record_.phases["predict_original"] = context_.predict_original;
    EvaluatedModel model = evaluate_predictions(context_.subject, context_.original, *network_);
    if (saved_) check_saved(model.evaluation.test.fixed);
    judge(model);
    if (record_.status == Status::ok) {
      evaluate_attack(context_.subject, &context_.original, *network_, &model);
    } else {
      model.evaluation.no_attack_reason = "corrupted: the model is not attacked";
    }
    const Clock::time_point start = Clock::now();
    if (model.finite) {
      record_.metrics = measure_metrics(model.evaluation);
      record_.invariants.push_back(check_identity(record_.metrics, context_.original.accuracy()));
    }
    record_.phases["measure"] = seconds_since(start);
    for (const auto& [phase, seconds] : model.phases) record_.phases[phase] = seconds;
    nondeterministic_.insert(watch.operators().begin(), watch.operators().end());
    evaluation_ = std::move(model.evaluation);
  }

  void check_saved(const std::vector<int32_t>& in_memory) {
    const Clock::time_point start = Clock::now();
    const Network reloaded = context_.subject.load_model(saved_->temporary());
    const int64_t images = std::min(kReloadImages, context_.subject.data().split("test").size());
    const Predictions again =
        predict(reloaded, context_.subject.data().split("test"), context_.subject.batch(), images);
    record_.invariants.push_back(check_reload(in_memory, again.classes));
    record_.phases["reload"] = seconds_since(start);
  }

  void judge(const EvaluatedModel& model) {
    const double limit = context_.config.corrupted_below * context_.original.accuracy();
    if (!model.finite) {
      record_.status = Status::corrupted;
      record_.reason = "not_finite: the fixed model's output is not finite on some inputs";
    } else if (model.accuracy < limit) {
      record_.status = Status::corrupted;
      record_.reason = "accuracy: " + format_number(model.accuracy) + " percent on the test split, below " +
                       format_number(context_.config.corrupted_below) + " x the original's " +
                       format_number(context_.original.accuracy());
    }
  }

  bool keeps_model() const {
    if (context_.config.keep == "none") return false;
    return context_.config.keep == "all" || entry_.planned.cell.run == 1;
  }

  // The old record goes first, then files are replaced, then the new record comes: at no time does a record
  // lie beside another one's files.
  void write() {
    throw_if_stopped();
    std::filesystem::remove(context_.tree.record(entry_.planned.cell));
    for (const char* file : {"fixed.pt", "predictions.csv", "predictions_repair.csv", "attack.csv"}) {
      std::filesystem::remove(folder_ / file);
    }
    if (saved_ && keeps_model()) saved_->commit();
    saved_.reset();
    if (evaluation_) {
      write_atomically(folder_ / "predictions.csv", predictions_csv(evaluation_->test));
      if (evaluation_->repair) {
        write_atomically(folder_ / "predictions_repair.csv", predictions_csv(*evaluation_->repair));
      }
      if (evaluation_->attack) write_atomically(folder_ / "attack.csv", attack_csv(*evaluation_->attack));
    }
    record_.provenance = provenance_of(context_, entry_, nondeterministic_);
    write_atomically(context_.tree.record(entry_.planned.cell), record_.to_json().dump(1) + "\n");
  }

  const CellContext& context_;
  const PlanEntry& entry_;
  std::filesystem::path folder_;
  Record record_;
  std::optional<Network> network_;
  std::optional<AtomicFile> saved_;
  std::optional<Evaluation> evaluation_;
  std::set<std::string> nondeterministic_;
};

}  // namespace

std::optional<double> budget_of(const Config& config, const PlanEntry& entry) {
  if (entry.approach != nullptr && entry.approach->budget_seconds) return entry.approach->budget_seconds;
  if (entry.subject->budget_seconds) return entry.subject->budget_seconds;
  return config.budget_seconds;
}

Record run_cell(const CellContext& context, const PlanEntry& entry) {
  return CellRun(context, entry).run();
}

}  // namespace harness

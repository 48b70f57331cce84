#include "harness/cell/cell.hpp"

#include <ATen/Parallel.h>

#include "harness/cell/cell_folder.hpp"
#include "harness/cell/checks.hpp"
#include "harness/cell/kept_stages.hpp"
#include "harness/cell/provenance.hpp"
#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/process_memory.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/external/external.hpp"
#include "harness/measure/evaluate.hpp"
#include "harness/measure/metrics/outcomes.hpp"
#include "harness/measure/random_output.hpp"
#include "harness/store/sealed.hpp"

namespace harness::cell {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kReloadImages = 250;  // that the saved model is compared on

json json_of(const std::optional<FixMemory>& memory) {
  if (!memory) return nullptr;
  return {{"peak_megabytes", memory->peak},
          {"growth_megabytes", memory->growth},
          {"device_peak_megabytes", memory->device_peak},
          {"device_growth_megabytes", memory->device_growth}};
}

std::set<std::string> names_in(const json& list) {
  return list.get<std::set<std::string>>();
}

class CellRun {
 public:
  CellRun(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse)
      : context_(context),
        entry_(entry),
        identity_(entry.planned.identity),
        folder_(context.tree.cell(entry.planned.cell), context.lease),
        reuse_(reuse) {}

  Record run() {
    make_folders(folder_.path());
    remove_half_written(folder_.path());
    kept_ = find_kept_stages(context_, entry_, reuse_, folder_);
    fix();
    if (record_.status == Status::ok) {
      predict_splits();
      judge();
      attack();
    }
    measure();
    return std::move(record_);
  }

 private:
  // Of a kept record too, which may be of another plan.
  void identify_record() {
    plan::identify(context_.config, entry_, &record_);
    record_.classes = context_.subject.data().info().classes;
    record_.group_names = context_.subject.group_names();
  }

  void fix() {
    reset_peak();
    if (kept_.fix) {
      record_ = Record::from_json(kept_.fix->content.at("record"), folder_.path() / "fix.json");
      made_by_["fix"] = kept_.fix->content.at("made_by");
      nondeterministic_ = names_in(kept_.fix->content.at("nondeterministic"));
      memory_ = kept_.fix->content.value("memory", json());
      cut_short_ = kept_.fix->content.value("cut_short", "");
      fix_identity_ = kept_.fix->identity;
      fix_redo_ = kept_.fix->content.value("redo", "");
      identify_record();
      return;
    }
    folder_.clear_from(Stage::fix);
    if (reuse_ == plan::Reuse::nothing) fix_redo_ = context_.redo;
    identify_record();
    record_.device = context_.device_name;
    record_.threads = at::get_num_threads();
    record_.concurrent_workers = context_.workers;
    fix_identity_ = identity_.of_fix();
    StageFile file{fix_identity_, {}, {}};
    if (!context_.subject.data().has("test")) {
      record_.status = Status::unadaptable;
      record_.reason = "missing_split: the evaluation needs the split test, which the data does not have";
    } else if (entry_.approach != nullptr) {
      compute_fix(&file);
    } else {
      context_.begin({.name = "load"});
      const PhaseClock clock(device());
      network_ = context_.subject.load_model(entry_.published);
      record_.invariants = {
          check_random_output(*network_, context_.subject.sample(), context_.subject.batch())};
      record_.phases["load"] = clock.seconds();
    }
    made_by_["fix"] = made_by();
    file.content = {
        {"record", record_.to_json()}, {"made_by", made_by_["fix"]}, {"nondeterministic", nondeterministic_},
        {"redo", fix_redo_},           {"memory", memory_},          {"cut_short", cut_short_}};
    folder_.keep(Stage::fix, file);
    throw_if_stopped();
  }

  bool failed_with(const std::set<std::string>& codes) const {
    return record_.status == Status::failure &&
           codes.count(record_.reason.substr(0, record_.reason.find(':'))) > 0;
  }

  void compute_fix(StageFile* file) {
    const std::string fix_digest = digest_of(fix_identity_.dump());
    auto checkpoint = read_checkpoint(folder_.checkpoint(), fix_digest);
    if (checkpoint && reuse_ == plan::Reuse::nothing && checkpoint->redo != context_.redo) checkpoint.reset();
    FixSpent before;
    if (checkpoint) {
      fix_redo_ = checkpoint->redo;
      before = std::move(checkpoint->spent);
      ++before.interruptions;
      folder_.adopt_scratch();
    } else {
      folder_.remove_checkpoint();
    }
    const Approach approach = approach_of(before.seconds);
    FixJob job = fix_job(approach, context_.subject, *entry_.approach, repair_counts(), entry_.planned.seed);
    job.budget = plan::budget_of(context_.config, entry_);
    job.progress = context_.progress;
    job.begun = context_.fix_begun;
    job.checkpoint_seconds = context_.config.checkpoint_seconds;
    job.before = before;
    if (checkpoint) job.resumed = std::move(checkpoint->state);
    job.save = [&](const CheckpointState& state, const FixSpent& spent) {
      folder_.demand_lease();
      write_checkpoint(folder_.checkpoint(), fix_digest, {state, spent, fix_redo_});
    };
    context_.begin({.name = "fix", .spent = before.seconds, .keeps_own_budget = approach.in_other_process});
    take(job, run_fix(job), file);
  }

  Approach approach_of(double seconds_before) const {
    const ApproachConfig& entry = *entry_.approach;
    if (!entry.external) return *find_approach(entry.key);
    return external::external_approach(
        entry, {.subject = context_.subject.config(),
                .load_model = [&](const fs::path& file) { return context_.subject.load_model(file); },
                .budget = plan::budget_of(context_.config, entry_),
                .seconds_before = seconds_before,
                .scratch = folder_.scratch()});
  }

  void take(const FixJob& job, FixOutcome outcome, StageFile* file) {
    record_.status = outcome.status;
    record_.reason = outcome.reason;
    record_.interruptions = job.before.interruptions;
    record_.phases["load"] = context_.subject.load_seconds();
    if (outcome.status != Status::unadaptable) record_.phases["fix"] = outcome.seconds;
    for (const auto& [phase, seconds] : outcome.log.phases) record_.phases["fix_" + phase] = seconds;
    record_.counters = outcome.log.counters;
    record_.scalars = outcome.log.scalars;
    record_.series = outcome.log.series;
    nondeterministic_ = outcome.nondeterministic;
    memory_ = json_of(outcome.memory);
    cut_short_ = outcome.cut_short;
    if (!outcome.result.network || outcome.status != Status::ok) return;
    context_.begin({.name = "save"});
    const PhaseClock clock(device());
    record_.invariants = check_parameters(context_.subject.original(), *outcome.result.network,
                                          outcome.result.touched, &record_.counters);
    AtomicFile saved(folder_.model());
    outcome.result.network->save(saved.temporary());
    folder_.demand_lease();
    saved.commit(Flush::content);
    file->files.push_back(CellFolder::kModel);
    record_.phases["save"] = clock.seconds();
    reload(*outcome.result.network);
  }

  // From here on the saved model is used, so that the result is the same where a run is interrupted.
  void reload(const Network& in_memory) {
    const PhaseClock clock(device());
    network_ = context_.subject.load_model(folder_.model());
    const Split& test = context_.subject.data().split("test");
    const int64_t images = std::min(kReloadImages, test.size());
    const auto classes = [&](const Network& network) {
      return predict(network, test, context_.subject.batch(), images).classes;
    };
    record_.invariants.push_back(check_reload(classes(in_memory), classes(*network_)));
    record_.invariants.push_back(
        check_random_output(*network_, context_.subject.sample(), context_.subject.batch()));
    record_.phases["reload"] = clock.seconds();
  }

  const Network& network() {
    if (!network_) {
      network_ = context_.subject.load_model(entry_.published.empty() ? folder_.model() : entry_.published);
    }
    return *network_;
  }

  RepairCounts repair_counts() const {
    if (!context_.subject.data().has("repair")) return {};
    return count_repair(context_.subject.labels("repair"), context_.original.classes("repair"));
  }

  void predict_splits() {
    const bool has_repair = context_.subject.data().has("repair");
    predict_identity_ = identity_.of_predictions(fix_identity_);
    if (kept_.predict) {
      metrics::SplitOutcome test = metrics::read_predictions(folder_.path() / "predictions.csv");
      test.group = context_.subject.groups("test");
      std::optional<metrics::SplitOutcome> repair;
      if (has_repair) {
        repair = metrics::read_predictions(folder_.path() / "predictions_repair.csv");
        repair->group = context_.subject.groups("repair");
      }
      model_ = evaluated_model(context_.subject, std::move(test), std::move(repair));
      model_.not_finite = kept_.predict->content.at("not_finite");
      model_.random = kept_.predict->content.at("random");
      take_part("predict", kept_.predict->content);
      return;
    }
    folder_.clear_from(Stage::predict);
    context_.begin({.name = "predict"});
    const DeterminismWatch watch;
    model_ = evaluate_predictions(context_.subject, context_.original, network());
    StageFile file{predict_identity_, content_of(watch), {"predictions.csv"}};
    file.content["phases"]["predict_original"] = context_.predict_original;
    file.content["not_finite"] = model_.not_finite;
    file.content["random"] = model_.random;
    file.content["accuracy"] = model_.accuracy;
    folder_.write("predictions.csv", metrics::predictions_csv(model_.evaluation.test));
    if (model_.evaluation.repair) {
      folder_.write("predictions_repair.csv", metrics::predictions_csv(*model_.evaluation.repair));
      file.files.push_back("predictions_repair.csv");
    }
    folder_.keep(Stage::predict, file);
    take_part("predict", file.content);
    throw_if_stopped();
  }

  void attack() {
    if (record_.status != Status::ok) {
      model_.evaluation.no_attack_reason = "corrupted: the model is not attacked";
      return;
    }
    if (!context_.wants_attack()) return;
    if (kept_.attack) {
      model_.evaluation.no_attack_reason = kept_.attack->content.at("impossible");
      if (model_.evaluation.no_attack_reason.empty()) {
        model_.evaluation.attack = metrics::read_attack(folder_.path() / "attack.csv");
      }
      take_part("attack", kept_.attack->content);
      return;
    }
    folder_.clear_from(Stage::attack);
    context_.begin({.name = "attack"});
    model_.phases.clear();
    const DeterminismWatch watch;
    evaluate_attack(context_.subject, &context_.original, network(), &model_);
    StageFile file{identity_.of_attack(predict_identity_), content_of(watch), {}};
    file.content["impossible"] = model_.evaluation.attack ? "" : model_.evaluation.no_attack_reason;
    if (model_.evaluation.attack) {
      folder_.write("attack.csv", metrics::attack_csv(*model_.evaluation.attack));
      file.files.push_back("attack.csv");
    }
    folder_.keep(Stage::attack, file);
    take_part("attack", file.content);
    throw_if_stopped();
  }

  // Why the fixed model may give other answers the next time; empty where nothing shows that.
  std::string randomness() {
    for (Invariant& check : record_.invariants) {
      if (check.name != "random_output") continue;
      check = with_pass(std::move(check), model_.random);
      return check.holds ? "" : check.detail;
    }
    return "";
  }

  void judge() {
    const std::string random = randomness();
    if (!model_.finite()) {
      record_.status = Status::corrupted;
      record_.reason = "not_finite: " + model_.not_finite;
    } else if (model_.accuracy < context_.min_accuracy()) {
      record_.status = Status::corrupted;
      record_.reason = "accuracy: " + format_number(model_.accuracy) + " percent on the test split, below " +
                       format_number(context_.config.corrupted_below) + " x the original's " +
                       format_number(context_.original.accuracy());
      if (!random.empty()) record_.reason += "; mistrusted: random_output: " + random;
    }
  }

  void measure() {
    const PhaseClock clock(device());
    if (!predict_identity_.is_null() && model_.finite()) {
      record_.metrics = measure_metrics(model_.evaluation);
      record_.invariants.push_back(check_identity(record_.metrics, context_.original.accuracy()));
      for (Invariant& check : check_counts(model_.evaluation, record_.metrics)) {
        record_.invariants.push_back(std::move(check));
      }
      const auto& attack = context_.subject.config().attack;
      if (model_.evaluation.attack && attack && attack->epsilon == 0) {
        record_.invariants.push_back(check_epsilon_zero(*model_.evaluation.attack));
      }
      if (record_.key == "NONE") record_.invariants.push_back(check_unchanged(record_.metrics));
      record_.phases["measure"] = clock.seconds();
    }
    // a kept fix of another version makes a record of that version: stale until it is redone
    Identity identity = identity_;
    identity.version = version_in(fix_identity_);
    record_.digest = identity.digest();
    record_.provenance = provenance_of(context_, entry_, nondeterministic_);
    record_.provenance["identity"] = identity;
    record_.provenance["made_by"] = made_by_;
    record_.provenance["memory"] = memory_;
    record_.provenance["cut_short"] = cut_short_;
    if (!fix_redo_.empty()) record_.provenance["redo"] = fix_redo_;
    folder_.demand_lease();
    fs::remove(context_.tree.record(entry_.planned.cell));
    if (!plan::keeps_model(context_.config, entry_)) fs::remove(folder_.model());
    // a fix that ran out of its budget goes on from its checkpoint once the budget is larger
    if (!failed_with({"timeout", "out_of_memory"})) folder_.remove_checkpoint();
    write_sealed(context_.tree.record(entry_.planned.cell), record_.to_json());
  }

  // Of a stage: its times and what else its file says.
  json content_of(const DeterminismWatch& watch) const {
    return {{"phases", model_.phases}, {"nondeterministic", watch.operators()}, {"made_by", made_by()}};
  }

  void take_part(const std::string& stage, const json& content) {
    for (const auto& [phase, seconds] : content.at("phases").items()) record_.phases[phase] = seconds;
    for (const std::string& name : names_in(content.at("nondeterministic"))) nondeterministic_.insert(name);
    made_by_[stage] = content.at("made_by");
  }

  at::Device device() const { return context_.subject.original().device(); }

  json made_by() const { return maker_of(context_); }

  const CellContext& context_;
  const plan::PlanEntry& entry_;
  const Identity& identity_;
  const CellFolder folder_;
  const plan::Reuse reuse_;
  KeptStages kept_;
  json fix_identity_, predict_identity_, made_by_ = json::object();
  std::string fix_redo_;   // token of the redo that made the fix, else empty
  std::string cut_short_;  // the budget that ended the fix
  json memory_;            // of the fix; null where there was none or it is not known
  Record record_;
  std::optional<Network> network_;
  EvaluatedModel model_;
  std::set<std::string> nondeterministic_;
};

}  // namespace

Record run_cell(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse) {
  return CellRun(context, entry, reuse).run();
}

}  // namespace harness::cell

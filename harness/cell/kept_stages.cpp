#include "harness/cell/kept_stages.hpp"

#include "harness/core/error.hpp"
#include "harness/measure/metrics/outcomes.hpp"

namespace harness::cell {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class KeptStagesFinder {
 public:
  KeptStagesFinder(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse,
                   const CellFolder& folder)
      : context_(context),
        entry_(entry),
        identity_(entry.planned.identity),
        reuse_(reuse),
        folder_(folder.path()),
        model_(folder.model()) {}

  KeptStages find() const {
    KeptStages kept;
    kept.fix = read_stage(folder_, Stage::fix, CellFolder::kModel);
    if (!kept.fix || !is_right_fix(*kept.fix)) return {};
    kept.predict = read_stage(folder_, Stage::predict);
    if (kept.predict && !are_right_predictions(*kept.predict, kept.fix->identity)) kept.predict.reset();
    if (kept.predict && context_.wants_attack()) kept.attack = read_stage(folder_, Stage::attack);
    if (kept.attack && kept.attack->identity != identity_.of_attack(kept.predict->identity)) {
      kept.attack.reset();
    }
    if (needs_model(kept) && !has_model()) return {};  // it was not kept: the fix has to be made again
    return kept;
  }

 private:
  bool is_right_fix(const StageFile& fix) const {
    // one by another version of the approach stays until --redo
    if (!same_but_for_version(fix.identity, identity_.of_fix())) return false;
    if (reuse_ == plan::Reuse::nothing && fix.content.value("redo", "") != context_.redo) return false;
    return reuse_ != plan::Reuse::retry || status_of(fix) != to_text(Status::failure);
  }

  bool are_right_predictions(const StageFile& predict, const json& fix) const {
    return predict.identity == identity_.of_predictions(fix) && fit_original();
  }

  // Whether the predictions lie beside the labels and the original's classes as they are known now.
  bool fit_original() const {
    const auto fit = [&](const char* split, const char* file) {
      const metrics::SplitOutcome kept = metrics::read_predictions(folder_ / file);
      return kept.label == context_.subject.labels(split) &&
             kept.original == context_.original.classes(split);
    };
    try {
      return fit("test", "predictions.csv") &&
             (!context_.subject.data().has("repair") || fit("repair", "predictions_repair.csv"));
    } catch (const UserError&) {  // damaged
      return false;
    }
  }

  // Whether a stage after the fix has to be computed.
  bool needs_model(const KeptStages& kept) const {
    const bool is_evaluated = kept.predict && (kept.attack || !context_.wants_attack());
    return !is_evaluated && status_of(*kept.fix) == to_text(Status::ok) && !is_corrupted(kept.predict);
  }
  bool has_model() const { return !entry_.published.empty() || fs::exists(model_); }

  bool is_corrupted(const std::optional<StageFile>& predict) const {
    return predict && (!predict->content.at("not_finite").get<std::string>().empty() ||
                       predict->content.at("accuracy").get<double>() < context_.min_accuracy());
  }

  static std::string status_of(const StageFile& fix) { return fix.content.at("record").at("status"); }

  const CellContext& context_;
  const plan::PlanEntry& entry_;
  const Identity& identity_;
  const plan::Reuse reuse_;
  const fs::path folder_, model_;
};

}  // namespace

KeptStages find_kept_stages(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse,
                            const CellFolder& folder) {
  return KeptStagesFinder(context, entry, reuse, folder).find();
}

}  // namespace harness::cell

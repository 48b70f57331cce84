#include "tests/report/fixture.hpp"

#include <algorithm>

#include "harness/core/files.hpp"
#include "harness/store/sealed.hpp"

namespace harness::testing {
namespace {

bool holds(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

PlannedCell& Results::plan(const std::string& approach, int64_t run, Level level) {
  PlannedCell cell;
  cell.cell = {"S", "net", approach, run};
  cell.key = approach;
  cell.name = "Name of " + approach;
  cell.level = level;
  cell.seed = 100 + static_cast<uint64_t>(run);
  cell.identity.approach.key = approach;
  cell.identity.seed = cell.seed;
  cell.identity.version = "1";
  cell.identity.device = "cpu";
  cell.seal();
  planned_.push_back(cell);
  return planned_.back();
}

Record& Results::add(const std::string& approach, int64_t run, Level level) {
  const PlannedCell& planned = plan(approach, run, level);
  records_.push_back(std::make_unique<Record>());
  Record& record = *records_.back();
  record.cell = planned.cell;
  record.key = planned.key;
  record.name = planned.name;
  record.level = level;
  record.seed = planned.seed;
  record.classes = 2;
  record.device = "CPU one";
  record.digest = planned.digest;
  record.provenance = {{"identity", planned.identity}};
  return record;
}

Record& Results::ok(const std::string& approach, int64_t run, const Outcome& outcome, double seconds,
                    Level level) {
  Record& record = add(approach, run, level);
  metrics::Evaluation evaluation;
  evaluation.classes = 2;
  std::string predictions = "index,label,original,fixed\n", attack;
  for (int i = 0; i < 10; ++i) {
    evaluation.test.label.push_back(0);
    evaluation.test.original.push_back(holds(outcome.original, i));
    evaluation.test.fixed.push_back(holds(outcome.fixed, i));
    predictions += std::to_string(i) + ",0," + std::to_string(evaluation.test.original.back()) + "," +
                   std::to_string(evaluation.test.fixed.back()) + "\n";
  }
  const std::filesystem::path folder = tree().cell(record.cell);
  std::filesystem::create_directories(folder);
  write_atomically(folder / "predictions.csv", predictions);
  if (outcome.attacked.empty()) {
    evaluation.no_attack_reason = "no_attack: none is configured";
  } else {
    metrics::AttackOutcome flags;
    attack = "image,original,fixed,zero_gradient_original,zero_gradient\n";
    for (const int image : outcome.attacked) {
      const bool succeeded = holds(outcome.succeeded, image);
      flags.image.push_back(image);
      flags.original.push_back(1);
      flags.fixed.push_back(succeeded);
      flags.zero_gradient_original.push_back(0);
      flags.zero_gradient.push_back(!succeeded);
      attack += std::to_string(image) + ",1," + (succeeded ? "1,0,0" : "0,0,1") + "\n";
    }
    evaluation.attack = flags;
    write_atomically(folder / "attack.csv", attack);
  }
  for (const metrics::Metric& metric : metrics::all()) {
    const metrics::MetricValue value = metric.compute(evaluation);
    record.metrics.push_back({metric.name, metric.unit, value.value, value.reason});
  }
  record.phases = {{"fix", seconds}, {"predict", 0.5}};
  if (level == Level::published) record.phases.erase("fix");
  return record;
}

Record& Results::other(const std::string& approach, int64_t run, Status status, const std::string& reason) {
  Record& record = add(approach, run, Level::neuron);
  record.status = status;
  record.reason = reason;
  return record;
}

report::Report Results::report() const {
  for (const auto& record : records_) {
    std::filesystem::create_directories(tree().cell(record->cell));
    write_sealed(tree().record(record->cell), record->to_json());
  }
  std::vector<PlannedCell> planned = planned_;
  for (PlannedCell& cell : planned) cell.seal();  // tests change identities
  return report::make_report(tree(), planned);
}

}  // namespace harness::testing

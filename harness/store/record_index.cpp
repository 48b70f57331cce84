#include "harness/store/record_index.hpp"

#include "harness/core/files.hpp"

namespace harness {
namespace {

using nlohmann::json;

std::filesystem::path file_of(const ResultsTree& tree) {
  return tree.root() / "records.json";
}

}  // namespace

RecordSummary summary_of(const Record& record) {
  return {record.digest,      record.status,  record.reason,
          seconds_of(record), record.limited, record.failed_checks()};
}

RecordIndex::RecordIndex(const ResultsTree& tree) : tree_(tree) {
  std::error_code ignored;
  if (!std::filesystem::exists(file_of(tree), ignored)) return;
  try {
    const json value = json::parse(read_text(file_of(tree)));
    if (value.at("schema") != kRecordSchema) return;
    for (const auto& [cell, entry] : value.at("records").items()) {
      known_.add(cell, entry.at(0).get<Known::Stamp>(),
                 {entry.at(1), static_cast<Status>(entry.at(2).get<int>()), entry.at(3), entry.at(4),
                  entry.at(5), entry.at(6)});
    }
  } catch (const std::exception&) {  // records are read again
    known_.clear();
  }
}

RecordIndex::Found RecordIndex::look(const PlannedCell& planned) {
  const std::filesystem::path file = tree_.record(planned.cell);
  const std::string cell = planned.cell.text();
  const std::optional<Known::Stamp> stamp = Known::stamp_of(file);
  if (!stamp) return {};
  const RecordSummary* known = known_.find(cell, *stamp);
  if (known != nullptr && known->digest == planned.digest) {
    return {*known, std::nullopt, CellState::finished};
  }
  FoundRecord found = tree_.look(planned.cell);
  if (found.damage) return {std::nullopt, std::move(found.damage), CellState::damaged};
  if (!found.record) return {};
  RecordSummary summary = summary_of(*found.record);
  if (known == nullptr) {
    known_.set(cell, *stamp, summary);
    changed_ = true;
  }
  return {std::move(summary), std::nullopt, state_of(planned, found.record, Compare::exact)};
}

void RecordIndex::save() {
  if (!changed_) return;
  json records = json::object();
  for (const auto& [cell, entry] : known_.entries()) {
    const auto& [stamp, summary] = entry;
    records[cell] = {stamp,
                     summary.digest,
                     static_cast<int>(summary.status),
                     summary.reason,
                     summary.seconds,
                     summary.limited,
                     summary.failed_checks};
  }
  const json value = {{"schema", kRecordSchema}, {"records", std::move(records)}};
  try {
    write_atomically(file_of(tree_), value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
                     Flush::nothing);
    changed_ = false;
  } catch (const UserError&) {  // whoever writes results here says why
  }
}

}  // namespace harness

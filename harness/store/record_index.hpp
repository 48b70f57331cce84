#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/core/stamp_cache.hpp"
#include "harness/store/results.hpp"

namespace harness {

// What planning needs of a record.
struct RecordSummary {
  std::string digest;
  Status status = Status::ok;
  std::string reason;
  double seconds = 0;  // of all its phases
  bool limited = false;
  std::string failed_checks;  // Record::failed_checks()
};
RecordSummary summary_of(const Record& record);

// Looks at many records quickly: what is known of a record.json that has not changed since comes from a
// cache, <results>/records.json. Only a cache: what cannot be read or written is left.
class RecordIndex {
 public:
  explicit RecordIndex(const ResultsTree& tree);

  struct Found {
    std::optional<RecordSummary> summary;
    std::optional<Problem> damage;
    CellState state = CellState::missing;  // compared exactly
  };
  Found look(const PlannedCell& planned);
  void save();

 private:
  using Known = StampCache<RecordSummary, false>;

  const ResultsTree& tree_;
  Known known_;  // by the cell's text
  bool changed_ = false;
};

}  // namespace harness

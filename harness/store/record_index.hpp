#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

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

// Looks at many records quickly: what is known of a record.json that has not changed since (inode, size,
// time) comes from a cache, <results>/records.json. Only a cache: what cannot be read or written is left.
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
  using Stamp = std::array<int64_t, 4>;  // inode, size, seconds and nanoseconds of the last change

  const ResultsTree& tree_;
  std::map<std::string, std::pair<Stamp, RecordSummary>> known_;  // by the cell's text
  bool changed_ = false;
};

}  // namespace harness

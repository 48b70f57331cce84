#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace harness::external {

// What an external program says of its fix (scripts/examples/README.md).
struct ExternalReport {
  enum class Status { ok, unadaptable, failure };
  Status status = Status::ok;
  std::string reason;                    // "code: text"; where ok a note, or empty
  std::map<std::string, double> phases;  // seconds
  std::map<std::string, int64_t> counters;
  std::map<std::string, double> scalars;
};

// Throws UserError with "report" as its file, for a file that is not there or no report.
ExternalReport read_report(const std::filesystem::path& file);

}  // namespace harness::external

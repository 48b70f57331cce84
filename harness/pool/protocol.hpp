#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/plan/plan.hpp"
#include "harness/plan/workload.hpp"

// All messages between the engine and a worker. Each is one JSON object on a line of its own: the name of the
// message under "message", and its fields under the names they have here. Requests go to the worker's
// standard input, replies come from its descriptor WorkerProcess::kReplies.
namespace harness::pool {

// A PlanEntry by its places in the configuration that both sides have.
struct CellEntry {
  PlannedCell planned;
  int64_t subject = 0;              // place in Config::subjects
  std::optional<int64_t> approach;  // place in Config::approaches; absent for published models
  std::string published;            // file of a published model, else empty
};
CellEntry cell_entry(const Config& config, const plan::PlanEntry& entry);
// Valid as long as `config`. Throws std::out_of_range for places outside of it.
plan::PlanEntry plan_entry(const Config& config, const CellEntry& entry);

// Requests. What each is answered by stands behind the arrow; each may also be answered by RequestFailed, and
// all but ComputeCell by RequestRefused.

struct StartWorker {  // -> WorkerReady
  static constexpr const char* kName = "start";
  nlohmann::json configuration;          // Config::effective()
  std::map<std::string, int64_t> limit;  // Config::limit, which effective() leaves out
  std::string results;                   // root of the results tree
  std::string device;                    // as --device takes it
  int64_t threads = 0, workers = 1;      // threads of this worker (0: LibTorch's choice); workers in all
};

struct ProbeEntries {  // opens their subjects and published models -> EntriesProbed
  static constexpr const char* kName = "probe";
  std::vector<CellEntry> entries;
};

// -> PartBegun ..., FixBegun in the part "fix", CellProgress ..., and at the end one of CellFinished,
// CellInterrupted and CellLost
struct ComputeCell {
  static constexpr const char* kName = "compute";
  CellEntry entry;
  plan::Reuse reuse = plan::Reuse::everything;
  std::string lease;  // token of the cell's lease
  std::string redo;   // token of the redo that the cell belongs to, else empty
};

struct CheckDevice {  // a trivial operation on the device -> DeviceWorks
  static constexpr const char* kName = "check device";
};

using Request = std::variant<StartWorker, ProbeEntries, ComputeCell, CheckDevice>;

// Replies.

struct WorkerReady {
  static constexpr const char* kName = "ready";
  std::string device;  // model name of its device
};

struct EntriesProbed {
  static constexpr const char* kName = "probed";
  std::vector<Problem> problems;  // with files that the entries need
};

struct RequestRefused {  // as a file or the configuration is not usable
  static constexpr const char* kName = "refused";
  std::vector<Problem> problems;
};

struct RequestFailed {
  static constexpr const char* kName = "failed";
  std::string why;
  bool of_file = false;  // a file was the reason
};

struct DeviceWorks {
  static constexpr const char* kName = "device works";
};

struct PartBegun {  // of the cell
  static constexpr const char* kName = "part begun";
  std::string name;               // "load", "fix", "save", "predict", "attack"
  double spent = 0;               // seconds of the fix before this worker had it
  bool keeps_own_budget = false;  // of a fix: nobody has to end it at its budget
};

struct FixBegun {  // its clock started
  static constexpr const char* kName = "fix begun";
  double resident_megabytes = 0;  // of the worker at that moment, which are not the fix's
};

struct CellProgress {
  static constexpr const char* kName = "progress";
  double done = 0;  // share of the part, from 0 to 1
  std::string what;
};

struct CellFinished {  // its record is written
  static constexpr const char* kName = "finished";
  Status status = Status::ok;
  std::string reason;
  bool mistrusted = false;
  double seconds = 0;
};

struct CellLost {  // another process has the cell's lease
  static constexpr const char* kName = "lost";
};

struct CellInterrupted {  // by a stop signal
  static constexpr const char* kName = "interrupted";
};

using Reply = std::variant<WorkerReady, EntriesProbed, RequestRefused, RequestFailed, DeviceWorks, PartBegun,
                           FixBegun, CellProgress, CellFinished, CellLost, CellInterrupted>;

// A line that is none of these messages: cut short, of another name, without a field or with one of another
// type. what() says which, in one line.
class MalformedMessage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Without the line's end. Text of a reply that is no UTF-8 becomes U+FFFD; of a request it is an error
// (nlohmann::json::type_error), as it may be the name of a file.
std::string to_line(const Request& request);
std::string to_line(const Reply& reply);
// Throw MalformedMessage.
Request read_request(const std::string& line);
Reply read_reply(const std::string& line);

void throw_if_any(const std::vector<Problem>& problems);  // UserError with those that differ

}  // namespace harness::pool

#include "harness/cli/common.hpp"

#include <iostream>
#include <set>

#include "harness/approach/approach.hpp"
#include "harness/core/error.hpp"
#include "harness/core/parse_number.hpp"
#include "harness/data/split_names.hpp"

namespace harness::cli {
namespace {

constexpr double kMaxShapeValues = 1e9;

std::optional<int64_t> positive(const std::string& text) {
  const auto number = parse_number<int64_t>(text);
  return number && *number >= 1 ? number : std::nullopt;
}

[[noreturn]] void refuse_value(const std::string& option, const std::string& found,
                               const std::string& expected, const std::string& suggestion = "") {
  throw UserError({"command line", option, '"' + found + '"', expected, suggestion});
}

// Refuses a limit on a split that no subject has. Data files that cannot be read are reported later.
void demand_limited_splits(const Config& config) {
  if (config.limit.empty()) return;
  std::set<std::string> known;
  for (const SubjectConfig& subject : config.subjects) {
    const std::vector<std::string> names = splits_in(subject.data);
    if (names.empty()) return;
    known.insert(names.begin(), names.end());
  }
  std::string all;
  for (const std::string& name : kSplitNames) {
    if (known.count(name) > 0) all += (all.empty() ? "" : ", ") + name;
  }
  for (const auto& [name, count] : config.limit) {
    if (known.count(name) > 0) continue;
    refuse_value("--limit", name + "=" + std::to_string(count),
                 "a split that a data file of the subjects has: " + all);
  }
}

}  // namespace

OptionSpec results_option() {
  return {"results", OptionKind::single, "DIR",
          "results tree (default: results/<name of the configuration>)"};
}
OptionSpec set_option() {
  return {"set", OptionKind::repeated, "POINTER=VALUE",
          "override one value of the configuration; repeatable"};
}
OptionSpec device_option() {
  return {"device", OptionKind::single, "DEVICE",
          "auto, cpu, cuda, or cuda:0,2 (default: auto, or the configuration's)"};
}
OptionSpec threads_option() {
  return {"threads", OptionKind::single, "N", "CPU threads (default: LibTorch's choice)"};
}
OptionSpec limit_option() {
  return {"limit", OptionKind::single, "SPLIT=N,...",
          "only the first N images of a split; tables say LIMITED"};
}
OptionSpec format_option() {
  return {"format", OptionKind::single, "FORMAT", "text (default), csv or json"};
}
OptionSpec quiet_option() {
  return {"quiet", OptionKind::flag, "", "no progress on standard error"};
}

Config configured(const Arguments& arguments, bool need_files) {
  ConfigOptions options;
  options.need_files = need_files;
  for (const std::string& text : arguments.list("set"))
    options.set.push_back(parse_assignment("--set", text));
  Config config = read_config(arguments.positional(0), approach_catalog(), options);
  if (const auto device = arguments.text("device")) config.device = *device;
  if (const auto limit = arguments.text("limit")) config.limit = parse_limit(*limit);
  if (need_files) demand_limited_splits(config);
  return config;
}

ResultsTree tree_of(const Arguments& arguments, const Config& config) {
  if (const auto results = arguments.text("results")) return ResultsTree(*results);
  return ResultsTree(std::filesystem::path("results") / config.name);
}

std::map<std::string, int64_t> parse_limit(const std::string& text) {
  std::map<std::string, int64_t> limit;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto [split, number] = parse_assignment("--limit", part);
    const auto count = positive(number);
    if (std::find(kSplitNames.begin(), kSplitNames.end(), split) == kSplitNames.end()) {
      refuse_value("--limit", split, "train, validation, repair or test", nearest_name(split, kSplitNames));
    }
    if (!count) refuse_value("--limit", number, "a whole number above 0");
    limit[split] = *count;
  }
  if (limit.empty()) refuse_value("--limit", text, "SPLIT=N,...");
  return limit;
}

std::pair<std::string, std::string> parse_assignment(const std::string& option, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) refuse_value(option, text, "NAME=VALUE");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<int64_t> parse_shape(const std::string& text) {
  std::vector<int64_t> shape;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto size = positive(part);
    if (!size) refuse_value("--shape", text, "N,C,H,W with whole numbers above 0");
    shape.push_back(*size);
  }
  if (shape.size() != 4) refuse_value("--shape", text, "N,C,H,W");
  double values = 1;
  for (const int64_t size : shape) values *= static_cast<double>(size);
  if (values > kMaxShapeValues) refuse_value("--shape", text, "N,C,H,W with at most 10^9 values in all");
  return shape;
}

DeviceChoice prepare_device(const Config& config, const Arguments& arguments) {
  require_one_openmp();
  DeviceChoice device = choose_device(config.device);
  if (!device.note.empty()) reporter(arguments)(device.note);
  apply_switches(config, device, arguments.integer("threads", 1, kMaxThreads).value_or(0));
  return device;
}

std::function<void(const std::string&)> reporter(const Arguments& arguments) {
  if (arguments.has("quiet")) return [](const std::string&) {};
  return [](const std::string& line) { std::cerr << line << std::endl; };
}

void print_damage(const ResultsError& error) {
  for (const Problem& problem : error.problems()) std::cerr << to_text(problem) << "\n";
  std::cerr << "the results are damaged there; harness run computes the cell again\n";
}

void print_table(const report::Table& table, const std::string& format) {
  if (format == "csv") {
    std::cout << report::to_csv(table);
  } else if (format == "json") {
    std::cout << to_json(table).dump(2) << "\n";
  } else {
    std::cout << report::to_aligned({table.columns}, table.rows, table.columns.size());
  }
}

}  // namespace harness::cli

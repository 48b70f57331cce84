#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "harness/cli/arguments.hpp"
#include "harness/config/config.hpp"
#include "harness/measure/device.hpp"
#include "harness/report/table.hpp"
#include "harness/store/results.hpp"

namespace harness::cli {

// Options that several commands share.
OptionSpec results_option();
OptionSpec set_option();
OptionSpec device_option();
inline constexpr int64_t kMaxThreads = 4096;
OptionSpec threads_option();
OptionSpec limit_option();
OptionSpec format_option();  // text, csv or json
OptionSpec quiet_option();

// Reads the positional CONFIG with --set, --device and --limit applied.
Config configured(const Arguments& arguments, bool need_files);
// The tree of --results, or else results/<name of the configuration>.
ResultsTree tree_of(const Arguments& arguments, const Config& config);
// "test=100,repair=50"
std::map<std::string, int64_t> parse_limit(const std::string& text);
// "name=value" at the first equals sign.
std::pair<std::string, std::string> parse_assignment(const std::string& option, const std::string& text);
// "1,3,32,32"
std::vector<int64_t> parse_shape(const std::string& text);

// Chooses the device, checks the OpenMP runtime and sets the switches. Prints on standard error what "auto"
// chose.
DeviceChoice prepare_device(const Config& config, const Arguments& arguments);

// Prints a line on standard error; nothing with --quiet.
std::function<void(const std::string&)> reporter(const Arguments& arguments);

// Prints what is wrong in a results tree and what to do, on standard error. The exit code is then 4.
void print_damage(const ResultsError& error);

// Prints a table on standard output in the format text, csv or json.
void print_table(const report::Table& table, const std::string& format);

}  // namespace harness::cli

#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace harness::cli {

enum class OptionKind {
  flag,      // --quiet
  single,    // --device cpu
  repeated,  // --set a=1 --set b=[0,1]: one value each time, which may have commas
  list       // --fixed a b c: all words up to the next option
};

struct OptionSpec {
  std::string name;
  OptionKind kind = OptionKind::single;
  std::string value;  // name of its value in the help: "FILE"
  std::string help;
};

struct CommandSpec {
  std::string name;
  std::string summary;                   // one line
  std::vector<std::string> positionals;  // names: {"CONFIG"}; all required
  std::vector<OptionSpec> options;
};

// The parsed words of one command. Values of a wrong type or out of range are UserErrors.
class Arguments {
 public:
  bool has(const std::string& option) const { return values_.count(option) > 0; }
  std::optional<std::string> text(const std::string& option) const;
  std::string required(const std::string& option) const;  // UserError where it is absent
  const std::vector<std::string>& list(const std::string& option) const;
  std::optional<int64_t> integer(const std::string& option, int64_t min_value,
                                 int64_t max_value = std::numeric_limits<int64_t>::max()) const;
  std::optional<double> number(const std::string& option, double min_value) const;
  // One of `words`; the first if the option is absent. UserError for another value.
  std::string choice(const std::string& option, const std::vector<std::string>& words) const;
  const std::string& positional(size_t place) const { return positionals_.at(place); }

 private:
  friend Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words);
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> positionals_;
};

// Throws UserError with the wrong word and, for an unknown option, the closest one.
Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words);
std::string help_text(const CommandSpec& spec);

}  // namespace harness::cli

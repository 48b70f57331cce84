#include "harness/cli/arguments.hpp"

#define CXXOPTS_NO_REGEX true  // its regular expressions end a value at a line break
#include <cxxopts.hpp>

#include "harness/core/error.hpp"
#include "harness/core/parse_number.hpp"

namespace harness::cli {
namespace {

const char* const kPlace = "command line";
const char* const kGiven = "true";  // the value of a flag

const OptionSpec* find_option(const CommandSpec& spec, const std::string& name) {
  for (const OptionSpec& option : spec.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

bool is_option(const std::string& word) {
  return word.size() > 2 && word[0] == '-' && word[1] == '-';
}

std::string name_of(const std::string& word) {
  return word.substr(2, word.find('=') - 2);
}

[[noreturn]] void refuse(const std::string& place, const std::string& found, const std::string& expected,
                         const std::string& suggestion = "") {
  throw UserError({kPlace, place, found, expected, suggestion});
}

[[noreturn]] void refuse_unknown(const CommandSpec& spec, const std::string& name) {
  std::vector<std::string> names = {"help"};
  for (const OptionSpec& option : spec.options) names.push_back(option.name);
  const std::string near = nearest_name(name, names);
  refuse("--" + name, "an option that harness " + spec.name + " does not have",
         "one that harness help " + spec.name + " lists", near.empty() ? "" : "--" + near);
}

// cxxopts gives every option one value: "--fixed a b" becomes "--fixed=a --fixed=b".
std::vector<std::string> spread_lists(const CommandSpec& spec, const std::vector<std::string>& words) {
  std::vector<std::string> spread;
  std::string list;  // the list option that the next words belong to
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!is_option(word)) {
      spread.push_back(list.empty() ? word : list + "=" + word);
      continue;
    }
    const OptionSpec* option = find_option(spec, name_of(word));
    list = option != nullptr && option->kind == OptionKind::list ? "--" + option->name : "";
    const bool values_follow = word == list && i + 1 < words.size() && !is_option(words[i + 1]);
    if (!values_follow) spread.push_back(word);
  }
  return spread;
}

// All values are texts here, for cxxopts splits lists at commas and its messages name no expected value.
cxxopts::ParseResult split_words(const CommandSpec& spec, const std::vector<std::string>& words) {
  cxxopts::Options parser("harness");
  parser.allow_unrecognised_options();  // reported below, with what was probably meant
  for (const OptionSpec& option : spec.options) {
    const auto value = cxxopts::value<std::string>();
    if (option.kind == OptionKind::flag) value->implicit_value(kGiven);
    parser.add_options()(option.name, option.help, value);
  }
  std::vector<const char*> pointers = {"harness"};
  for (const std::string& word : words) pointers.push_back(word.c_str());
  try {
    return parser.parse(static_cast<int>(pointers.size()), pointers.data());
  } catch (const cxxopts::exceptions::missing_argument&) {  // of the last word
    refuse(words.back(), "no value", find_option(spec, name_of(words.back()))->value);
  }
}

void demand_value(const OptionSpec& option, const std::string& value) {
  const std::string name = "--" + option.name;
  if (option.kind == OptionKind::flag) {  // "--quiet=false" must not mean --quiet
    if (value != kGiven) refuse(name + "=" + value, "a value", name + " alone, or not at all");
    return;
  }
  if (is_option(value)) refuse(name, "no value", option.value);
  if (value.empty()) refuse(name, "an empty value", option.value);
}

}  // namespace

std::optional<std::string> Arguments::text(const std::string& option) const {
  const auto found = values_.find(option);
  if (found == values_.end()) return std::nullopt;
  return found->second.back();
}

std::string Arguments::required(const std::string& option) const {
  const auto value = text(option);
  if (!value) refuse("--" + option, "nothing", "--" + option + " with its value (see --help)");
  return *value;
}

const std::vector<std::string>& Arguments::list(const std::string& option) const {
  static const std::vector<std::string> none;
  const auto found = values_.find(option);
  return found == values_.end() ? none : found->second;
}

std::optional<int64_t> Arguments::integer(const std::string& option, int64_t min_value,
                                          int64_t max_value) const {
  const auto value = text(option);
  if (!value) return std::nullopt;
  const auto number = parse_number<int64_t>(*value);
  if (number && *number >= min_value && *number <= max_value) return number;
  const bool bounded = max_value < std::numeric_limits<int64_t>::max();
  refuse("--" + option, '"' + *value + '"',
         bounded ? "a whole number from " + std::to_string(min_value) + " to " + std::to_string(max_value)
                 : "a whole number, " + std::to_string(min_value) + " or more");
}

std::optional<double> Arguments::number(const std::string& option, double min_value) const {
  const auto value = text(option);
  if (!value) return std::nullopt;
  const auto number = parse_number<double>(*value);
  if (number && *number >= min_value && !std::isinf(*number)) return number;
  refuse("--" + option, '"' + *value + '"',
         "a number, " + std::to_string(std::lround(min_value)) + " or more");
}

std::string Arguments::choice(const std::string& option, const std::vector<std::string>& words) const {
  const auto value = text(option);
  if (!value) return words.front();
  if (std::find(words.begin(), words.end(), *value) != words.end()) return *value;
  std::string expected;
  for (const std::string& word : words) expected += (expected.empty() ? "" : ", ") + word;
  refuse("--" + option, '"' + *value + '"', "one of " + expected, nearest_name(*value, words));
}

Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& words) {
  Arguments arguments;
  const cxxopts::ParseResult parsed = split_words(spec, spread_lists(spec, words));
  for (const std::string& word : parsed.unmatched()) {
    if (is_option(word)) refuse_unknown(spec, name_of(word));
    if (word.size() > 1 && word[0] == '-') refuse(word, "one dash", "an option, with two dashes");
    arguments.positionals_.push_back(word);
  }
  for (const cxxopts::KeyValue& pair : parsed.arguments()) {
    const OptionSpec& option = *find_option(spec, pair.key());
    demand_value(option, pair.value());
    std::vector<std::string>& values = arguments.values_[option.name];
    values.push_back(pair.value());
    const bool once = option.kind == OptionKind::single || option.kind == OptionKind::flag;
    if (once && values.size() > 1) refuse("--" + option.name, "the option twice", "it once");
  }
  const std::vector<std::string>& positionals = arguments.positionals_;
  if (positionals.size() != spec.positionals.size()) {
    const bool few = positionals.size() < spec.positionals.size();
    refuse("harness " + spec.name, few ? "nothing" : '"' + positionals[spec.positionals.size()] + '"',
           few ? spec.positionals[positionals.size()] : "no further word");
  }
  return arguments;
}

// Our own text: that of cxxopts breaks lines at 76 columns and cannot show lists.
std::string help_text(const CommandSpec& spec) {
  CommandSpec shown = spec;
  shown.options.push_back({"help", OptionKind::flag, "", "this text"});
  std::string text = spec.summary + "\n\nUsage: harness " + spec.name;
  for (const std::string& name : spec.positionals) text += " " + name;
  text += " [options]\n\n";
  size_t width = 0;
  const auto usage = [](const OptionSpec& option) {
    std::string words = "  --" + option.name;
    if (option.kind == OptionKind::flag) return words;
    words += " " + option.value;
    return option.kind == OptionKind::list ? words + " ..." : words;
  };
  for (const OptionSpec& option : shown.options) width = std::max(width, usage(option).size());
  for (const OptionSpec& option : shown.options) {
    const std::string words = usage(option);
    text += words + std::string(width + 2 - words.size(), ' ') + option.help + "\n";
  }
  return text;
}

}  // namespace harness::cli

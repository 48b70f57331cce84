#include "harness/cli/arguments.hpp"

#include <charconv>
#include <cxxopts.hpp>

#include "harness/core/error.hpp"

namespace harness {
namespace {

const char* const kPlace = "command line";

const OptionSpec* find_option(const CommandSpec& spec, const std::string& name) {
  for (const OptionSpec& option : spec.options) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

bool is_option(const std::string& word) {
  return word.size() > 2 && word[0] == '-' && word[1] == '-';
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

// cxxopts splits list values at commas and gives every option one value: repeated and list options are taken
// out here, and every name is checked, so that an unknown one comes with a suggestion.
std::vector<std::string> take_lists(const CommandSpec& spec, const std::vector<std::string>& words,
                                    std::map<std::string, std::vector<std::string>>* taken) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word[0] == '-' && !is_option(word)) {
      refuse(word, "one dash", "an option, with two dashes");
    }
    if (!is_option(word)) {
      rest.push_back(word);
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const OptionSpec* option = find_option(spec, name);
    if (option == nullptr) refuse_unknown(spec, name);
    const bool inner = equals != std::string::npos;
    if (option->kind == OptionKind::flag && inner) {  // "--quiet=false" must not mean --quiet
      refuse(word, "a value", "--" + name + " alone, or not at all");
    }
    if (option->kind == OptionKind::flag || option->kind == OptionKind::single) {
      rest.push_back(word);
      if (option->kind == OptionKind::single && !inner) {
        if (i + 1 >= words.size() || is_option(words[i + 1])) refuse(word, "no value", option->value);
        rest.back() += "=" + words[++i];  // one word, so that values may begin with a dash
      }
      if (rest.back() == "--" + name + "=") refuse("--" + name, "an empty value", option->value);
      continue;
    }
    std::vector<std::string>& values = (*taken)[name];
    const size_t before = values.size();
    if (inner) values.push_back(word.substr(equals + 1));
    const bool list = option->kind == OptionKind::list;
    while (i + 1 < words.size() && !is_option(words[i + 1]) && (list || values.size() == before)) {
      values.push_back(words[++i]);
    }
    if (values.size() == before) refuse(word, "no value", option->value);
  }
  return rest;
}

cxxopts::Options parser_of(const CommandSpec& spec) {
  cxxopts::Options parser("harness " + spec.name, spec.summary);
  for (const OptionSpec& option : spec.options) {
    if (option.kind == OptionKind::flag) parser.add_options()(option.name, option.help);
    if (option.kind == OptionKind::single) {
      parser.add_options()(option.name, option.help, cxxopts::value<std::string>(), option.value);
    }
  }
  return parser;
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
                                          int64_t maximum) const {
  const auto value = text(option);
  if (!value) return std::nullopt;
  int64_t number = 0;
  const auto [end, trouble] = std::from_chars(value->data(), value->data() + value->size(), number);
  if (trouble != std::errc() || end != value->data() + value->size() || number < min_value ||
      number > maximum) {
    const bool bounded = maximum < std::numeric_limits<int64_t>::max();
    refuse("--" + option, '"' + *value + '"',
           bounded ? "a whole number from " + std::to_string(min_value) + " to " + std::to_string(maximum)
                   : "a whole number, " + std::to_string(min_value) + " or more");
  }
  return number;
}

std::optional<double> Arguments::number(const std::string& option, double min_value) const {
  const auto value = text(option);
  if (!value) return std::nullopt;
  double number = 0;
  const auto [end, trouble] = std::from_chars(value->data(), value->data() + value->size(), number);
  if (trouble != std::errc() || end != value->data() + value->size() || !(number >= min_value) ||
      std::isinf(number)) {
    refuse("--" + option, '"' + *value + '"',
           "a number, " + std::to_string(std::lround(min_value)) + " or more");
  }
  return number;
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
  std::vector<std::string> rest = take_lists(spec, words, &arguments.values_);
  std::vector<std::string> positionals;
  std::vector<const char*> pointers = {"harness"};
  for (const std::string& word : rest) {  // positionals may hold commas, which cxxopts would split
    if (is_option(word)) {
      pointers.push_back(word.c_str());
    } else {
      positionals.push_back(word);
    }
  }
  cxxopts::Options parser = parser_of(spec);
  try {
    const cxxopts::ParseResult result = parser.parse(static_cast<int>(pointers.size()), pointers.data());
    for (const auto& pair : result.arguments()) arguments.values_[pair.key()].push_back(pair.value());
  } catch (const cxxopts::exceptions::exception& error) {
    refuse("harness " + spec.name, error.what(), "see harness " + spec.name + " --help");
  }
  for (const OptionSpec& option : spec.options) {
    const auto found = arguments.values_.find(option.name);
    const bool once = option.kind == OptionKind::single || option.kind == OptionKind::flag;
    if (once && found != arguments.values_.end() && found->second.size() > 1) {
      refuse("--" + option.name, "the option twice", "it once");
    }
  }
  if (positionals.size() != spec.positionals.size()) {
    const bool few = positionals.size() < spec.positionals.size();
    refuse("harness " + spec.name, few ? "nothing" : '"' + positionals[spec.positionals.size()] + '"',
           few ? spec.positionals[positionals.size()] : "no further word");
  }
  arguments.positionals_ = std::move(positionals);
  return arguments;
}

std::string help_text(const CommandSpec& spec) {
  CommandSpec shown = spec;
  shown.options.push_back({"help", OptionKind::flag, "", "this text"});
  std::string text = spec.summary + "\n\nUsage: harness " + spec.name;
  for (const std::string& name : spec.positionals) text += " " + name;
  text += " [options]\n\n";
  size_t width = 0;
  const auto left = [](const OptionSpec& option) {
    std::string words = "  --" + option.name;
    if (option.kind == OptionKind::flag) return words;
    words += " " + option.value;
    return option.kind == OptionKind::list ? words + " ..." : words;
  };
  for (const OptionSpec& option : shown.options) width = std::max(width, left(option).size());
  for (const OptionSpec& option : shown.options) {
    const std::string words = left(option);
    text += words + std::string(width + 2 - words.size(), ' ') + option.help + "\n";
  }
  return text;
}

}  // namespace harness

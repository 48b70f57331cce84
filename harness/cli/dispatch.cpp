#include <filesystem>
#include <iostream>

#include "harness/cell/version.hpp"
#include "harness/cli/commands.hpp"
#include "harness/core/error.hpp"
#include "harness/pool/worker.hpp"

namespace harness::cli {
namespace {

const Command* find_command(const std::string& word) {
  for (const Command& command : commands()) {
    if (command.spec.name == word) return &command;
  }
  return nullptr;
}

void print_help(std::ostream& out) {
  out << "Repairs trained classifiers with published fixing approaches and compares the results.\n\n"
         "Usage: harness CONFIG [options]     the same as harness run CONFIG\n"
         "       harness COMMAND ... [options]\n\n";
  for (const Command& command : commands()) {
    std::string words = "  " + command.spec.name;
    for (const std::string& name : command.spec.positionals) words += " " + name;
    words.resize(std::max<size_t>(words.size() + 2, 24), ' ');
    out << words << command.spec.summary << "\n";
  }
  out << "\nharness help COMMAND lists the options of a command; harness version names the version.\n"
         "Exit codes: 0 all is well, 1 some cell has no result, 2 usage or configuration, 3 interrupted "
         "(the\n"
         "same command continues), 4 the results tree is damaged.\n";
}

[[noreturn]] void refuse_command(const std::string& word, const std::string& expected) {
  std::vector<std::string> names = {"help", "version"};
  for (const Command& known : commands()) names.push_back(known.spec.name);
  throw UserError({"command line", "", '"' + word + '"', expected, nearest_name(word, names)});
}

int help(const std::vector<std::string>& words) {
  if (words.size() > 2) {
    throw UserError({"command line", "harness help", '"' + words[2] + '"', "no further word", ""});
  }
  if (words.size() == 1) {
    print_help(std::cout);
    return 0;
  }
  const Command* command = find_command(words[1]);
  if (command == nullptr) refuse_command(words[1], "a command");
  std::cout << help_text(command->spec);
  return 0;
}

// A word that is no command is a configuration if it looks like a file, else a misspelt command.
bool looks_like_file(const std::string& word) {
  return word.find('/') != std::string::npos || word.find('.') != std::string::npos ||
         std::filesystem::exists(word);
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      run_command(),  check_command(),   plan_command(),     status_command(), tables_command(),
      list_command(), inspect_command(), evaluate_command(), fix_command(),    audit_command()};
  return all;
}

int dispatch(const std::vector<std::string>& words) {
  if (words.empty()) {
    print_help(std::cerr);
    return 2;
  }
  if (words[0] == "--help" || words[0] == "help") return help(words);
  if (words[0] == "--version" || words[0] == "version") {
    std::cout << "harness " << cell::harness_version() << "\n";
    return 0;
  }
  if (words[0] == "worker") return pool::run_worker();  // started by harness run only, so no help names it
  const Command* command = find_command(words[0]);
  std::vector<std::string> rest(words.begin() + (command == nullptr ? 0 : 1), words.end());
  if (command == nullptr) {
    if (words[0].rfind("--", 0) != 0 && !looks_like_file(words[0])) {
      refuse_command(words[0], "a command or a configuration file");
    }
    command = find_command("run");
  }
  if (std::find(rest.begin(), rest.end(), "--help") != rest.end()) {
    std::cout << help_text(command->spec);
    return 0;
  }
  return command->run(parse_arguments(command->spec, rest));
}

}  // namespace harness::cli

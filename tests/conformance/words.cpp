// Properties of what an approach says of itself: parameters, refusals, controls.
#include <algorithm>
#include <regex>
#include <set>

#include "harness/cell/fixing.hpp"
#include "tests/conformance/properties.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

using nlohmann::json;

constexpr double kMaxSecondsToRefuse = 1;

// Codes of UNADAPTABLE: each can be known before any work.
const std::set<std::string> kUnadaptable = {
    "missing_split",   "no_faults",           "no_correct_inputs", "operator",    "structure",
    "no_history",      "too_few_error_types", "too_few_classes",   "no_training", "too_many_classes",
    "vacuous_control", "history_mismatch",    "unknown_label"};
// Codes of FAILURE that an approach may give itself.
const std::set<std::string> kFailures = {"no_fix", "timeout", "out_of_memory"};

bool is_of_type(const json& value, HyperparameterType type) {
  switch (type) {
    case HyperparameterType::boolean:
      return value.is_boolean();
    case HyperparameterType::integer:
      return value.is_number_integer();
    case HyperparameterType::number:
      return value.is_number();
    case HyperparameterType::text:
      return value.is_string();
    case HyperparameterType::table:
      return value.is_object() && std::ranges::all_of(value, [](const json& one) { return one.is_number(); });
  }
  return false;
}

// What a reader can open: a publication with its year, public code, or this project.
bool is_source(const std::string& text) {
  static const std::regex publication("[A-Z].*(19|20)[0-9][0-9]");
  return std::regex_search(text, publication) || text.find("public code") != std::string::npos ||
         text.starts_with("our choice") || text.find("approaches/") != std::string::npos;
}

void check_default(const HyperparameterSpec& spec, const std::function<void(const std::string&)>& complain) {
  const json& value = spec.default_value;
  if (spec.minimum && spec.maximum && *spec.minimum > *spec.maximum) complain("an empty range");
  if (value.is_null()) {
    if (!spec.nullable) complain("no default");
    return;
  }
  if (!is_of_type(value, spec.type)) return complain("a default of another type");
  if (value.is_number()) {
    const double number = value.get<double>();
    if (spec.minimum && number < *spec.minimum) complain("a default below its minimum");
    if (spec.maximum && number > *spec.maximum) complain("a default above its maximum");
  }
  if (!spec.choices.empty() && std::ranges::count(spec.choices, value.get<std::string>()) != 1)
    complain("a default that is none of its choices");
}

}  // namespace

Complaints parameter_complaints(const ApproachInfo& info) {
  Complaints complaints;
  std::set<std::string> names;
  for (const HyperparameterSpec& spec : info.hyperparameters) {
    const auto complain = [&](const std::string& what) { complaints.push_back(spec.name + ": " + what); };
    if (!names.insert(spec.name).second) complain("a name that another one has");
    static const std::regex name("[a-z][a-z0-9_]*");
    if (!std::regex_match(spec.name, name)) complain("a name that is not in lower case");
    if (spec.meaning.empty() || spec.meaning.find('\n') != std::string::npos)
      complain("no meaning in one line");
    if (spec.unit.empty()) complain("no unit; \"number\", \"word\" or \"yes or no\" where there is none");
    if (!is_source(spec.source)) complain("a source that nobody can open: \"" + spec.source + "\"");
    const bool is_table = spec.type == HyperparameterType::table;
    if (is_table != static_cast<bool>(spec.is_key) || is_table == spec.keys.empty())
      complain("a table without a word on its names, or names of what is none");
    static const std::regex hidden("\\bcard\\b|DESIGN|shared", std::regex::icase);
    for (const std::string& text : {spec.source, spec.meaning}) {
      if (std::regex_search(text, hidden)) complain("cites what is not in the project: \"" + text + "\"");
    }
    check_default(spec, complain);
  }
  return complaints;
}

Complaints info_complaints(const ApproachInfo& info) {
  Complaints complaints;
  static const std::regex key("[A-Z0-9]+");
  if (!std::regex_match(info.key, key)) complaints.push_back("a key that is not in capitals");
  if (info.name.empty()) complaints.push_back("no name");
  if (info.publication.empty()) complaints.push_back("no publication");
  if (info.version < 1) complaints.push_back("a version below 1");
  for (const auto* names : {&info.needs, &info.uses}) {
    for (const std::string& split : *names) {
      if (split == "test" || std::ranges::count(kSplitNames, split) == 0)
        complaints.push_back("the split " + split);
    }
  }
  for (const std::string& split : info.needs) {
    if (std::ranges::count(info.uses, split) > 0) complaints.push_back("needs and uses " + split);
  }
  return complaints;
}

Complaints refusal_complaints(const Case& one) {
  Complaints complaints;
  const double begin = processor_seconds();
  const auto refusal = refusal_of(one);
  if (processor_seconds() - begin > kMaxSecondsToRefuse) complaints.push_back("adapt() takes its time");
  if (refusal) {
    if (kUnadaptable.count(refusal->code) == 0) complaints.push_back("an unknown code: " + refusal->code);
    if (refusal->text.empty() || refusal->text.find('\n') != std::string::npos)
      complaints.push_back(refusal->code + " without a line of text");
    return complaints;
  }
  const Observed fix = observe(one);
  if (!fix.thrown.empty()) complaints.push_back("threw " + fix.thrown);
  if (!fix.thrown.empty()) return complaints;
  if (fix.result.network) {
    for (const std::string& text : touched_complaints(*one.network, fix.result)) complaints.push_back(text);
    return complaints;
  }
  const Refusal& failure = fix.result.failure;
  const std::string text = failure.code + ": " + failure.text;
  if (failure.text.empty()) complaints.push_back("FAILURE without a text");
  if (kUnadaptable.count(failure.code) > 0) {
    if (fix.progress > 0 || fix.seconds > kMaxSecondsToRefuse)
      complaints.push_back("did work before it said " + text);
  } else if (kFailures.count(failure.code) == 0 || failure.code == "timeout") {
    complaints.push_back("a FAILURE of no known kind: " + text);
  }
  return complaints;
}

Complaints control_complaints(const Approach& control, const Approach& other) {
  const std::string text = control.info.key + ":" + other.info.key;
  const bool offered = control.can_imitate(other);
  for (const Case& one : every_case()) {
    if (one.text != text) continue;
    if (!offered) return {"works and is not offered"};
    return touched_complaints(one);
  }
  if (offered) return {"is offered and applies to none of the networks"};
  Complaints complaints;
  for (const Case& one : every_case()) {
    if (one.approach != &other) continue;
    FixContext::Setup setup = one.setup();
    nlohmann::json values = hyperparameters_of(control.info, {}).values();
    values.update(setup.hyperparameters.values());
    const Hyperparameters parameters(values);
    const auto refusal = control.adapt({.network = one.network,
                                        .data = setup.data,
                                        .hyperparameters = parameters,
                                        .shadow = other.info.key,
                                        .training = setup.training,
                                        .history = setup.history});
    if (!refusal) return {"is not offered, and not refused"};
    if (refusal->code != "structure") complaints.push_back("is refused as " + refusal->code);
    if (refusal->text.find(other.info.key) == std::string::npos)
      complaints.push_back("is refused without naming " + other.info.key + ": " + refusal->text);
  }
  return complaints;
}

}  // namespace harness::testing

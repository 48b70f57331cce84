#include <algorithm>
#include <set>

#include "harness/config/config_parts.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/limits.hpp"

namespace harness {

namespace {

using nlohmann::json;

std::string one_of(const std::vector<std::string>& names) {
  if (names.empty()) return "(there is none)";
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// The keys that a control may stand before.
std::vector<std::string> shadowable(const Catalog& catalog, const ApproachInfo& control) {
  std::vector<std::string> keys;
  for (const ApproachInfo& info : catalog) {
    const bool wanted = control.shadow_of.empty() ||
                        std::count(control.shadow_of.begin(), control.shadow_of.end(), info.key) > 0;
    if (!info.shadows && wanted) keys.push_back(info.key);
  }
  return keys;
}

// Those of them that it can do something with, where that is known: what a message recommends.
std::vector<std::string> recommended(const Catalog& catalog, const ApproachInfo& control) {
  return control.imitates.empty() ? shadowable(catalog, control) : control.imitates;
}

// A parameter's value as its type; nothing (reported) where it does not fit.
std::optional<json> read_parameter(const json& value, const HyperparameterSpec& spec,
                                   const JsonPlace& place) {
  if (value.is_null() && spec.nullable) return value;
  Range range;
  if (spec.type == HyperparameterType::number) range = {-kMaxNumber, kMaxNumber};
  range.low = spec.minimum.value_or(range.low);
  range.high = spec.maximum.value_or(range.high);
  const auto wrap = [](const auto& read) { return read ? std::optional<json>(*read) : std::nullopt; };
  switch (spec.type) {
    case HyperparameterType::boolean:
      return wrap(read_boolean(value, place));
    case HyperparameterType::integer:
      return wrap(read_integer(value, place, range));
    case HyperparameterType::number:
      return wrap(read_number(value, place, range));
    case HyperparameterType::text:
      return wrap(read_text(value, place, spec.choices));
  }
  interface_misuse("a parameter type outside its enumeration");
}

// The approach's own description, with the shadowed approach's parameters where there is one.
struct Chosen {
  ApproachInfo info;
  std::string shadow;
};

std::optional<Chosen> choose(const std::string& written, const JsonPlace& place, const Catalog& catalog) {
  const size_t colon = written.find(':');
  const std::string key = written.substr(0, colon);
  const ApproachInfo* info = find(catalog, key);
  if (info == nullptr) {
    std::vector<std::string> keys;
    for (const ApproachInfo& known : catalog) keys.push_back(known.key);
    std::string expected = "the key of an approach (harness list approaches)";
    if (key == "published")
      expected = "no entry: models under \"published\" of a subject are always evaluated";
    place.report("text " + quote_text(written), expected, nearest_name(key, keys));
    return std::nullopt;
  }
  if (colon == std::string::npos) {
    if (!info->shadows || info->alone) return Chosen{*info, ""};
    place.report("text " + quote_text(written), key + " with the approach that it imitates, " + key +
                                                    ":KEY with KEY one of " +
                                                    one_of(recommended(catalog, *info)));
    return std::nullopt;
  }
  const std::string shadow = written.substr(colon + 1);
  if (!info->shadows) {
    place.report("text " + quote_text(written), key + " alone: it imitates no other approach", key);
    return std::nullopt;
  }
  const std::vector<std::string> keys = shadowable(catalog, *info);
  if (std::count(keys.begin(), keys.end(), shadow) == 0) {
    const std::string near = nearest_name(shadow, keys);
    place.report("text " + quote_text(written),
                 key + ":KEY with KEY one of " + one_of(recommended(catalog, *info)),
                 near.empty() ? "" : key + ":" + near);
    return std::nullopt;
  }
  Chosen chosen{*info, shadow};
  for (const HyperparameterSpec& spec : find(catalog, shadow)->hyperparameters) {
    const bool own = std::any_of(info->hyperparameters.begin(), info->hyperparameters.end(),
                                 [&](const HyperparameterSpec& other) { return other.name == spec.name; });
    if (!own) chosen.info.hyperparameters.push_back(spec);
  }
  return chosen;
}

ApproachConfig configured(const Chosen& chosen) {
  ApproachConfig approach;
  approach.key = chosen.info.key;
  approach.shadow = chosen.shadow;
  approach.as = chosen.shadow.empty() ? chosen.info.key : chosen.info.key + ":" + chosen.shadow;
  std::vector<Problem> none;
  approach.hyperparameters = read_hyperparameters(json::object(), chosen.info, "", "", &none);
  return approach;
}

std::optional<ApproachConfig> read_entry(const json& value, const JsonPlace& place, const Catalog& catalog,
                                         const std::filesystem::path& folder, const ConfigOptions& options) {
  if (value.is_string()) {
    const auto chosen = choose(value.get<std::string>(), place, catalog);
    return chosen ? std::optional(configured(*chosen)) : std::nullopt;
  }
  if (!value.is_object()) {
    place.report(describe(value), "the key of an approach, or an object with \"key\"");
    return std::nullopt;
  }
  ObjectReader object(value, place);
  if (object.find("command") != nullptr) return read_external(object, catalog, folder, options);
  std::optional<Chosen> chosen;
  if (const json* key = object.require("key")) {
    if (const auto text = read_text(*key, object.place("key"))) {
      chosen = choose(*text, object.place("key"), catalog);
    }
  }
  ApproachConfig approach = chosen ? configured(*chosen) : ApproachConfig{};
  if (const json* name = object.find("as"); name != nullptr && (!name->is_string() || *name != approach.as)) {
    approach.as = read_name(*name, object.place("as"), false).value_or("");
  }
  if (const json* parameters = object.find("parameters")) {
    if (chosen) {
      approach.hyperparameters = read_hyperparameters(*parameters, chosen->info, place.file,
                                                      object.place("parameters").pointer, place.problems);
    } else if (!parameters->is_object()) {
      object.place("parameters").report(describe(*parameters), "an object");
    }
  }
  approach.budget = read_budget(object);
  object.finish();
  return chosen ? std::optional(approach) : std::nullopt;
}

}  // namespace

Hyperparameters read_hyperparameters(const json& value, const ApproachInfo& info, const std::string& file,
                                     const std::string& pointer, std::vector<Problem>* problems) {
  ObjectReader object(value, {file, pointer, problems});
  json values = json::object();
  for (const HyperparameterSpec& spec : info.hyperparameters) {
    values[spec.name] = spec.default_value;
    if (const json* given = object.find(spec.name)) {
      values[spec.name] = read_parameter(*given, spec, object.place(spec.name)).value_or(spec.default_value);
    }
  }
  object.finish();
  return Hyperparameters(std::move(values));
}

std::vector<ApproachConfig> read_approaches(const json& value, const JsonPlace& place, const Catalog& catalog,
                                            const std::filesystem::path& folder,
                                            const ConfigOptions& options) {
  std::vector<ApproachConfig> approaches;
  if (value.is_string() && (value == "all" || value == "study")) {
    for (const ApproachInfo& info : catalog) {
      const bool alone = !info.shadows || info.alone;
      if (alone && (value == "all" || info.in_study)) approaches.push_back(configured({info, ""}));
    }
    if (approaches.empty())
      place.report(describe(value), "a program with approaches: this one has none of these");
    return approaches;
  }
  if (!value.is_array()) {
    place.report(describe(value), "\"all\", \"study\", or a list of approaches");
    return approaches;
  }
  std::set<std::string> names;
  for (size_t i = 0; i < value.size(); ++i) {
    auto approach = read_entry(value[i], place.at(i), catalog, folder, options);
    if (!approach) continue;
    if (!approach->as.empty() && !names.insert(approach->as).second) {
      place.at(i).report("the name " + quote_text(approach->as) + " again",
                         "a name that no other entry has (key \"as\")");
    }
    approaches.push_back(std::move(*approach));
  }
  return approaches;
}

}  // namespace harness

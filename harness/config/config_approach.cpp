#include <algorithm>
#include <set>

#include "harness/config/config_parts.hpp"
#include "harness/config/value_kinds.hpp"
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

// The approaches that a control may be combined with.
std::vector<std::string> shadowable(const Catalog& catalog, const ApproachInfo& control) {
  std::vector<std::string> keys;
  for (const ApproachInfo& info : catalog) {
    const bool wanted = control.shadow_of.empty() ||
                        std::count(control.shadow_of.begin(), control.shadow_of.end(), info.key) > 0;
    if (!info.shadows && wanted) keys.push_back(info.key);
  }
  return keys;
}

// Those that a message recommends: the approaches that the control supports, if it says which.
std::vector<std::string> recommended(const Catalog& catalog, const ApproachInfo& control) {
  return control.imitates.empty() ? shadowable(catalog, control) : control.imitates;
}

// A table of numbers. All entries that are wrong are reported.
std::optional<json> read_table(const json& value, const HyperparameterSpec& spec, const Range& range,
                               const JsonPlace& place) {
  if (!value.is_object()) {
    place.report(describe(value), "an object from " + spec.keys + " to a number");
    return std::nullopt;
  }
  json table = json::object();
  bool is_right = true;
  for (const auto& [key, entry] : value.items()) {
    if (key == "comment") continue;  // allowed everywhere
    const JsonPlace here = place.at(key);
    const bool is_key = !spec.is_key || spec.is_key(key);
    if (!is_key) here.report("the name " + quote_text(key), spec.keys);
    const std::optional<double> number = read_number(entry, here, range);
    is_right = is_right && is_key && number;
    if (number) table[key] = *number;
  }
  return is_right ? std::optional(table) : std::nullopt;
}

// A parameter's value in its type; nothing if it is wrong, which is reported.
std::optional<json> read_parameter(const json& value, const HyperparameterSpec& spec,
                                   const JsonPlace& place) {
  if (value.is_null() && spec.nullable) return value;
  Range range;
  const bool has_numbers = spec.type == HyperparameterType::number || spec.type == HyperparameterType::table;
  if (has_numbers) range = {-kMaxNumber, kMaxNumber};
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
    case HyperparameterType::table:
      return read_table(value, spec, range, place);
  }
  interface_misuse("a parameter type outside its enumeration");
}

// An entry's approach and, for a control, the one that it imitates.
struct Chosen {
  const ApproachInfo* info;
  std::string shadow;
};

std::optional<Chosen> resolve_key(const std::string& written, const JsonPlace& place,
                                  const Catalog& catalog) {
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
    if (!info->shadows || info->alone) return Chosen{info, ""};
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
  return Chosen{info, shadow};
}

// The approach's own description, with the parameters of the imitated approach added.
ApproachInfo info_of(const Chosen& chosen, const Catalog& catalog) {
  ApproachInfo info = *chosen.info;
  if (chosen.shadow.empty()) return info;
  for (const HyperparameterSpec& spec : find(catalog, chosen.shadow)->hyperparameters) {
    const bool own = std::any_of(chosen.info->hyperparameters.begin(), chosen.info->hyperparameters.end(),
                                 [&](const HyperparameterSpec& other) { return other.name == spec.name; });
    if (!own) info.hyperparameters.push_back(spec);
  }
  return info;
}

std::string written_key(const ApproachConfig& approach) {
  return approach.shadow.empty() ? approach.key : approach.key + ":" + approach.shadow;
}

ApproachConfig with_defaults(const Chosen& chosen, const Catalog& catalog) {
  ApproachConfig approach;
  approach.key = chosen.info->key;
  approach.shadow = chosen.shadow;
  approach.as = written_key(approach);
  std::vector<Problem> none;
  approach.hyperparameters = read_hyperparameters(json::object(), info_of(chosen, catalog), "", "", &none);
  return approach;
}

void read_key(const json& value, const JsonPlace& place, const ReadContext& context,
              ApproachConfig* approach) {
  const auto text = read_text(value, place);
  if (!text) return;
  if (const auto chosen = resolve_key(*text, place, context.catalog)) {
    *approach = with_defaults(*chosen, context.catalog);
  }
}

// The default name is allowed although it may have a colon.
void read_as(const json& value, const JsonPlace& place, const ReadContext&, ApproachConfig* approach) {
  if (value.is_string() && value == approach->as) return;
  approach->as = read_name(value, place, false).value_or("");
}

void read_parameters(const json& value, const JsonPlace& place, const ReadContext& context,
                     ApproachConfig* approach) {
  if (const ApproachInfo* info = find(context.catalog, approach->key)) {
    approach->hyperparameters = read_hyperparameters(
        value, info_of({info, approach->shadow}, context.catalog), place.file, place.pointer, place.problems);
  } else if (!value.is_object()) {
    place.report(describe(value), "an object");
  }
}

std::optional<ApproachConfig> read_entry(const json& value, const JsonPlace& place,
                                         const ReadContext& context) {
  if (value.is_string()) {
    const auto chosen = resolve_key(value.get<std::string>(), place, context.catalog);
    return chosen ? std::optional(with_defaults(*chosen, context.catalog)) : std::nullopt;
  }
  if (!value.is_object()) {
    place.report(describe(value), "the key of an approach, or an object with \"key\"");
    return std::nullopt;
  }
  const auto& table = value.contains("command") ? external_table() : entry_table();
  ApproachConfig approach = read_object(table, value, place, context, table.absent);
  const bool is_known = approach.external || !approach.key.empty();
  return is_known ? std::optional(std::move(approach)) : std::nullopt;
}

json print_approaches(const std::vector<ApproachConfig>& approaches) {
  json list = json::array();
  for (const ApproachConfig& approach : approaches) {
    list.push_back(print_object(approach.external ? external_table() : entry_table(), approach));
  }
  return list;
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

const ObjectTable<ApproachConfig>& entry_table() {
  using Approach = ApproachConfig;
  static const ObjectTable<Approach> table = {
      "an approach of the harness, or with \"command\" a program of one's own",
      {{"command", "makes it a program of one's own"},
       {"key", "such as AR, or RAND:AR for a control that imitates AR", read_key, written_key,
        reference_to("text"), true},
       {"as",
        "the name in paths and tables; default: the key",
        read_as,
        [](const Approach& approach) { return approach.as; },
        {{"type", "string"}, {"pattern", "^[A-Za-z0-9_][A-Za-z0-9_:-]{0,99}$"}}},
       {"parameters",
        "see harness list approaches",
        read_parameters,
        [](const Approach& approach) { return approach.hyperparameters.values(); },
        {{"type", "object"}}},
       field("budget", &Approach::budget, budget_kind(), "of one fix; null: that of the subject")}};
  return table;
}

ValueKind<std::vector<ApproachConfig>> approaches_kind() {
  const Schema entry = {{"if", {{"required", {"command"}}}},
                        {"then", reference_to("external_approach")},
                        {"else", reference_to("approach")}};
  const Schema list = {
      {"type", "array"},
      {"items", {{"if", {{"type", "string"}}}, {"then", reference_to("text")}, {"else", entry}}}};
  return {[](const json& value, const JsonPlace& place, const ReadContext& context) {
            return std::optional(read_approaches(value, place, context));
          },
          print_approaches,
          {{"if", {{"type", "string"}}}, {"then", {{"enum", {"all", "study"}}}}, {"else", list}}};
}

std::vector<ApproachConfig> read_approaches(const json& value, const JsonPlace& place,
                                            const ReadContext& context) {
  std::vector<ApproachConfig> approaches;
  if (value.is_string() && (value == "all" || value == "study")) {
    for (const ApproachInfo& info : context.catalog) {
      const bool alone = !info.shadows || info.alone;
      if (alone && (value == "all" || info.in_study))
        approaches.push_back(with_defaults({&info, ""}, context.catalog));
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
    auto approach = read_entry(value[i], place.at(i), context);
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

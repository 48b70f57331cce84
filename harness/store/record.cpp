#include "harness/store/record.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "harness/core/files.hpp"
#include "harness/core/json_reader.hpp"
#include "harness/core/json_text.hpp"
#include "harness/store/sealed.hpp"

namespace harness {

namespace {

using nlohmann::json;

constexpr std::array kStatuses = {Status::ok, Status::unadaptable, Status::failure, Status::corrupted};
constexpr std::array kLevels = {Level::model, Level::layer, Level::neuron, Level::control, Level::published};

// JSON has no NaN and no infinities, but a search may well end with an infinite fitness.
json from_double(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

double to_double(const json& value, const JsonPlace& place) {
  if (value.is_number()) return value.get<double>();
  if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
  place.report(describe(value), "a number, \"NaN\", \"Infinity\" or \"-Infinity\"");
  return 0;
}

json from_doubles(const std::vector<double>& values) {
  json list = json::array();
  for (const double value : values) list.push_back(from_double(value));
  return list;
}

std::vector<double> to_doubles(const json& value, const JsonPlace& place) {
  std::vector<double> values;
  if (!value.is_array()) place.report(describe(value), "a list of numbers");
  for (size_t i = 0; value.is_array() && i < value.size(); ++i) {
    values.push_back(to_double(value[i], place.at(i)));
  }
  return values;
}

int64_t to_integer(const json& value, const JsonPlace& place) {
  return read_integer(value, place).value_or(0);
}

std::string to_string(const json& value, const JsonPlace& place) {  // may be empty, may span lines
  if (value.is_string()) return value.get<std::string>();
  place.report(describe(value), "text");
  return "";
}

// Reads `object[key]` by `read(value, place)`; reported where it is absent.
template <typename Target, typename Read>
void required(ObjectReader& object, const char* key, Target* target, Read read) {
  if (const json* value = object.require(key)) *target = read(*value, object.place(key));
}

template <typename Element, typename Read>
auto map_of(Read read) {
  return [read](const json& value, const JsonPlace& place) {
    std::map<std::string, Element> result;
    if (!value.is_object()) place.report(describe(value), "an object");
    if (value.is_object()) {
      for (const auto& [key, element] : value.items()) result[key] = read(element, place.at(key));
    }
    return result;
  };
}

template <typename Element, typename Read>
auto list_of(Read read) {
  return [read](const json& value, const JsonPlace& place) {
    std::vector<Element> result;
    if (!value.is_array()) place.report(describe(value), "a list");
    for (size_t i = 0; value.is_array() && i < value.size(); ++i)
      result.push_back(read(value[i], place.at(i)));
    return result;
  };
}

// Reads one of an enumeration's words.
template <typename Words>
auto word_of(const Words& words) {
  return [&words](const json& value, const JsonPlace& place) {
    std::vector<std::string> choices;
    for (const auto word : words) choices.emplace_back(to_text(word));
    const auto text = read_text(value, place, choices);
    return text ? words[static_cast<size_t>(std::find(choices.begin(), choices.end(), *text) -
                                            choices.begin())]
                : words[0];
  };
}

bool to_bool(const json& value, const JsonPlace& place) {
  return read_boolean(value, place).value_or(false);
}

MetricRecord to_metric(const json& value, const JsonPlace& place) {
  MetricRecord metric;
  ObjectReader object(value, place);
  required(object, "name", &metric.name, to_string);
  required(object, "unit", &metric.unit, to_string);
  if (const json* number = object.require("value"); number != nullptr && !number->is_null()) {
    metric.value = to_double(*number, object.place("value"));
  }
  required(object, "reason", &metric.reason, to_string);
  object.finish();
  return metric;
}

Invariant to_invariant(const json& value, const JsonPlace& place) {
  Invariant invariant;
  ObjectReader object(value, place);
  required(object, "name", &invariant.name, to_string);
  required(object, "holds", &invariant.holds, to_bool);
  required(object, "detail", &invariant.detail, to_string);
  object.finish();
  return invariant;
}

void read_cell(const json& value, const JsonPlace& place, Record* record) {
  ObjectReader object(value, place);
  required(object, "subject", &record->cell.subject, to_string);
  required(object, "model", &record->cell.model, to_string);
  required(object, "approach", &record->cell.approach, to_string);
  if (const json* run = object.require("run")) {
    record->cell.run = read_integer(*run, object.place("run"), {1}).value_or(1);
  }
  required(object, "key", &record->key, to_string);
  required(object, "name", &record->name, to_string);
  required(object, "level", &record->level, word_of(kLevels));
  required(object, "in_study", &record->in_study, to_bool);
  if (const json* seed = object.require("seed")) {
    record->seed = read_unsigned(*seed, object.place("seed")).value_or(0);
  }
  required(object, "digest", &record->digest, to_string);
  required(object, "limited", &record->limited, to_bool);
  object.finish();
}

void read_data(const json& value, const JsonPlace& place, Record* record) {
  ObjectReader object(value, place);
  required(object, "classes", &record->classes, to_integer);
  required(object, "group_names", &record->group_names, list_of<std::string>(to_string));
  object.finish();
}

void read_machine(const json& value, const JsonPlace& place, Record* record) {
  ObjectReader object(value, place);
  required(object, "device", &record->device, to_string);
  if (const json* threads = object.find("threads")) {  // records of before have none
    record->threads = to_integer(*threads, object.place("threads"));
  }
  required(object, "concurrent_workers", &record->concurrent_workers, to_integer);
  required(object, "interruptions", &record->interruptions, to_integer);
  object.finish();
}

}  // namespace

const char* to_text(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::unadaptable:
      return "UNADAPTABLE";
    case Status::failure:
      return "FAILURE";
    case Status::corrupted:
      return "CORRUPTED";
  }
  interface_misuse("a status outside its enumeration");
}

std::string CellId::text() const {
  return subject + "/" + approach + "/" + std::to_string(run);
}

std::filesystem::path CellId::folder() const {
  std::string name = approach;
  std::replace(name.begin(), name.end(), ':', '.');
  return std::filesystem::path(subject) / name / std::to_string(run);
}

json Record::identity() const {
  return provenance.is_object() ? provenance.value("identity", json()) : json();
}

std::string Record::failed_checks() const {
  std::string names;
  for (const Invariant& one : invariants) {
    if (!one.holds) names += (names.empty() ? "" : ", ") + one.name;
  }
  return names;
}

double seconds_of(const Record& record) {
  double sum = 0;
  for (const auto& [phase, seconds] : record.phases) {
    if (phase.rfind("fix_", 0) != 0) sum += seconds;  // parts of "fix"
  }
  return sum;
}

json Record::to_json() const {
  json metric_list = json::array(), invariant_list = json::array();
  for (const MetricRecord& metric : metrics) {
    metric_list.push_back({{"name", metric.name},
                           {"unit", metric.unit},
                           {"value", metric.value ? from_double(*metric.value) : json(nullptr)},
                           {"reason", metric.reason}});
  }
  for (const Invariant& invariant : invariants) {
    invariant_list.push_back(
        {{"name", invariant.name}, {"holds", invariant.holds}, {"detail", invariant.detail}});
  }
  json phase_object = json::object(), scalar_object = json::object(), series_object = json::object();
  for (const auto& [key, seconds] : phases) phase_object[key] = from_double(seconds);
  for (const auto& [key, value] : scalars) scalar_object[key] = from_double(value);
  for (const auto& [key, values] : series) series_object[key] = from_doubles(values);
  return {{"schema", schema},
          {"cell",
           {{"subject", cell.subject},
            {"model", cell.model},
            {"approach", cell.approach},
            {"run", cell.run},
            {"key", key},
            {"name", name},
            {"level", to_text(level)},
            {"in_study", in_study},
            {"seed", seed},
            {"digest", digest},
            {"limited", limited}}},
          {"status", to_text(status)},
          {"reason", reason},
          {"metrics", metric_list},
          {"phases", phase_object},
          {"counters", counters},
          {"scalars", scalar_object},
          {"series", series_object},
          {"invariants", invariant_list},
          {"data", {{"classes", classes}, {"group_names", group_names}}},
          {"machine",
           {{"device", device},
            {"threads", threads},
            {"concurrent_workers", concurrent_workers},
            {"interruptions", interruptions}}},
          {"provenance", provenance}};
}

Record Record::from_file(const std::filesystem::path& file) {
  json value = read_json(file);
  // of another schema nothing else can be judged, not even the checksum
  const bool current = !value.is_object() || value.value("schema", json(kRecordSchema)) == kRecordSchema;
  return from_json(current ? unseal(std::move(value), file) : value, file);
}

Record Record::from_json(const json& value, const std::filesystem::path& file) {
  Record record;
  std::vector<Problem> problems;
  const JsonPlace place{file.string(), "", &problems};
  if (const auto known = value.is_object() ? value.find("schema") : value.end();
      known != value.end() && *known != kRecordSchema) {
    // of another version nothing else can be judged
    throw UserError({file.string(), "/schema", describe(*known), std::to_string(kRecordSchema), ""});
  }
  ObjectReader object(value, place);
  required(object, "schema", &record.schema, to_integer);
  if (const json* cell = object.require("cell")) read_cell(*cell, object.place("cell"), &record);
  required(object, "status", &record.status, word_of(kStatuses));
  required(object, "reason", &record.reason, to_string);
  required(object, "metrics", &record.metrics, list_of<MetricRecord>(to_metric));
  required(object, "phases", &record.phases, map_of<double>(to_double));
  required(object, "counters", &record.counters, map_of<int64_t>(to_integer));
  required(object, "scalars", &record.scalars, map_of<double>(to_double));
  required(object, "series", &record.series, map_of<std::vector<double>>(to_doubles));
  required(object, "invariants", &record.invariants, list_of<Invariant>(to_invariant));
  if (const json* data = object.require("data")) read_data(*data, object.place("data"), &record);
  if (const json* machine = object.require("machine"))
    read_machine(*machine, object.place("machine"), &record);
  if (const json* provenance = object.require("provenance")) {
    if (!provenance->is_object()) object.place("provenance").report(describe(*provenance), "an object");
    record.provenance = *provenance;
  }
  object.finish();
  if (!problems.empty()) throw UserError(std::move(problems));
  return record;
}

}  // namespace harness

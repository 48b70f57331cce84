#include <iostream>

#include "harness/approach/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/error.hpp"
#include "harness/measure/metrics/metric.hpp"

namespace harness::cli {
namespace {

using nlohmann::json;

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

const char* to_text(HyperparameterType type) {
  switch (type) {
    case HyperparameterType::boolean:
      return "boolean";
    case HyperparameterType::integer:
      return "integer";
    case HyperparameterType::number:
      return "number";
    case HyperparameterType::text:
      return "text";
    case HyperparameterType::table:
      return "table";
  }
  interface_misuse("no such parameter type");
}

json hyperparameters_of(const ApproachInfo& info) {
  json list = json::array();
  for (const HyperparameterSpec& spec : info.hyperparameters) {
    list.push_back({{"name", spec.name},
                    {"type", to_text(spec.type)},
                    {"default", spec.default_value},
                    {"unit", spec.unit},
                    {"meaning", spec.meaning},
                    {"source", spec.source},
                    {"minimum", spec.minimum ? json(*spec.minimum) : json()},
                    {"maximum", spec.maximum ? json(*spec.maximum) : json()},
                    {"choices", spec.choices},
                    {"nullable", spec.nullable}});
  }
  return list;
}

void list_approaches(const std::string& format) {
  const Catalog catalog = approach_catalog();
  if (format == "json") {
    json list = json::array();
    for (const ApproachInfo& info : catalog) {
      list.push_back({{"key", info.key},
                      {"name", info.name},
                      {"level", to_text(info.level)},
                      {"publication", info.publication},
                      {"basis", to_text(info.basis)},
                      {"version", info.version},
                      {"in_study", info.in_study},
                      {"needs", info.needs},
                      {"uses", info.uses},
                      {"shadows", info.shadows},
                      {"alone", !info.shadows || info.alone},
                      {"imitates", info.imitates},
                      {"parameters", hyperparameters_of(info)}});
    }
    std::cout << list.dump(2) << "\n";
    return;
  }
  report::Table table{
      "approaches",
      {"key", "name", "level", "publication", "basis", "version", "in_study", "needs", "uses", "imitates"},
      {}};
  for (const ApproachInfo& info : catalog) {
    const bool only_with_key = info.shadows && !info.alone;
    table.rows.push_back({only_with_key ? info.key + ":KEY" : info.key, info.name, to_text(info.level),
                          info.publication, to_text(info.basis), std::to_string(info.version),
                          info.in_study ? "yes" : "no", join(info.needs), join(info.uses),
                          join(info.imitates)});
  }
  print_table(table, format);
  if (format != "text") return;
  for (const ApproachInfo& info : catalog) {
    if (info.hyperparameters.empty()) continue;
    std::cout << "\nParameters of " << info.key << "\n\n";
    report::Table parameters{"", {"name", "type", "default", "unit", "meaning", "source"}, {}};
    for (const HyperparameterSpec& spec : info.hyperparameters) {
      parameters.rows.push_back(
          {spec.name, to_text(spec.type), spec.default_value.dump(), spec.unit, spec.meaning, spec.source});
    }
    print_table(parameters, "text");
  }
}

void list_metrics(const std::string& format) {
  report::Table table{"metrics", {"name", "unit", "better", "table", "joint"}, {}};
  for (const metrics::Metric& metric : metrics::all()) {
    table.rows.push_back(
        {metric.name, metric.unit, to_text(metric.better), metric.table, metric.joint ? "yes" : "no"});
  }
  print_table(table, format);
}

int list(const Arguments& arguments) {
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const std::string& what = arguments.positional(0);
  if (what == "schema" && arguments.has("format")) {
    throw UserError({"command line", "--format", '"' + format + '"', "no format: a schema is JSON", ""});
  }
  if (what == "approaches") {
    list_approaches(format);
  } else if (what == "metrics") {
    list_metrics(format);
  } else if (what == "schema") {
    std::cout << config_schema();
  } else {
    throw UserError({"command line", "harness list", '"' + what + '"', "approaches, metrics or schema",
                     nearest_name(what, {"approaches", "metrics", "schema"})});
  }
  return 0;
}

}  // namespace

Command list_command() {
  return {{"list",
           "Lists the approaches with their parameters, the metrics, or the schema of a configuration.",
           {"approaches|metrics|schema"},
           {format_option()}},
          list};
}

}  // namespace harness::cli

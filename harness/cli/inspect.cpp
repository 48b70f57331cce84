#include <ATen/Functions.h>

#include <cmath>
#include <iostream>

#include "harness/cli/adhoc.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/files.hpp"
#include "harness/model/fast/inference.hpp"

namespace harness::cli {
namespace {

using nlohmann::json;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text;
}

json nodes_of(const Network& network) {
  json nodes = json::array();
  if (!network.importable()) return nodes;
  for (const Node& node : network.nodes()) {
    int64_t count = 0;
    json names = json::array();
    for (const ParameterId id : node.parameters) {
      if (id < 0) continue;
      const Parameter& parameter = network.parameters()[static_cast<size_t>(id)];
      if (parameter.trainable) count += parameter.value.numel();  // not buffers and constants
      names.push_back(parameter.name);
    }
    json inputs = json::array();
    for (const NodeId input : node.inputs) inputs.push_back(network.nodes()[static_cast<size_t>(input)].name);
    nodes.push_back({{"name", node.name},
                     {"kind", to_text(node.kind)},
                     {"attributes", attributes_text(node)},
                     {"inputs", inputs},
                     {"output_shape", node.shape},
                     {"parameters", count},
                     {"parameter_names", names}});
  }
  return nodes;
}

json network_json(const Network& network) {
  const ImportReport& report = network.report();
  int64_t count = 0;
  if (network.importable()) {
    for (const Parameter& parameter : network.parameters()) {
      if (parameter.trainable) count += parameter.value.numel();
    }
  }
  return {{"importable", report.importable},
          {"unknown_operator", report.unknown_operator.empty() ? json() : json(report.unknown_operator)},
          {"detail", report.detail},
          {"training_obstacle", report.training_limitation},
          {"max_abs_difference", report.max_abs_difference},
          {"max_rel_difference", report.max_rel_difference},
          {"classes", network.classes()},
          {"input_shape", network.input_shape()},
          {"ends_in_softmax", report.importable ? json(network.ends_in_softmax()) : json()},
          {"parameters", report.importable ? json(count) : json()},
          {"digest", network.digest()},
          {"nodes", nodes_of(network)}};
}

// One line for each approach. A control has one for each approach that it can imitate.
json applicability(const AdHoc& opened) {
  json list = json::array();
  const auto add = [&](const Approach& approach, const std::string& shadow) {
    const std::string written = shadow.empty() ? approach.info.key : approach.info.key + ":" + shadow;
    const ApproachConfig entry = approach_entry(written, json::object());
    const auto refusal =
        cell::why_unadaptable(cell::fix_job(approach, *opened.subject, entry, opened.repair_counts(), 0));
    list.push_back({{"key", written},
                    {"name", approach.info.name},
                    {"applies", !refusal.has_value()},
                    {"reason", refusal ? refusal->code + ": " + refusal->text : ""}});
  };
  for (const ApproachInfo& info : approach_catalog()) {
    const Approach& approach = *find_approach(info.key);
    if (!info.shadows || info.alone) add(approach, "");
    for (const std::string& other : info.imitates) add(approach, other);
  }
  return list;
}

json splits_json(const AdHoc& opened) {
  json splits = json::object();
  const Dataset& data = opened.subject->data();
  for (const std::string& name : data.split_names()) {
    const int64_t images = data.split(name).size();
    const Predictions predictions =
        predict(opened.subject->original(), data.split(name), opened.subject->batch());
    const std::vector<int32_t> labels = opened.subject->labels(name);
    int64_t faults = 0;
    for (size_t i = 0; i < labels.size(); ++i) faults += labels[i] != predictions.classes[i];
    const double right = static_cast<double>(images - faults);
    splits[name] = {{"images", images},
                    {"accuracy", 100.0 * right / static_cast<double>(images)},
                    {"faults", faults},
                    {"groups", data.split(name).groups().defined()}};
  }
  return splits;
}

std::string difference_text(double value) {
  return std::isnan(value) ? "not a number" : format_number(value);
}

void print_text(const json& value) {
  std::cout << "importable: " << (value["importable"] ? "yes" : "no") << "\n";
  if (!value["importable"]) {
    std::cout << "what cannot be imported: " << value["unknown_operator"].get<std::string>() << " ("
              << value["detail"].get<std::string>() << ")\n";
  }
  std::cout << "greatest difference to TorchScript: " << difference_text(value["max_abs_difference"])
            << " (relative " << difference_text(value["max_rel_difference"]) << ")\n";
  if (value["importable"]) std::cout << "parameters: " << value["parameters"] << "\n";
  std::cout << "classes: " << value["classes"] << "\ndigest: " << value["digest"].get<std::string>() << "\n";
  const std::string limitation = value["training_obstacle"];
  if (value["importable"] && !limitation.empty()) std::cout << "cannot be trained: " << limitation << "\n";
  const std::string detail = value["detail"];
  if (value["importable"] && !detail.empty() && detail != limitation) std::cout << "note: " << detail << "\n";
  std::vector<std::vector<std::string>> rows;
  for (const json& node : value["nodes"]) {
    rows.push_back({node["name"], node["kind"], shape_text(node["output_shape"]), node["parameters"].dump(),
                    node["attributes"]});
  }
  if (!rows.empty()) {
    std::cout << "\n"
              << report::to_aligned({{"node", "kind", "output", "parameters", "attributes"}}, rows, 5);
  }
  if (!value.contains("data")) return;
  rows.clear();
  for (const auto& [name, split] : value["data"]["splits"].items()) {
    char accuracy[32];
    std::snprintf(accuracy, sizeof accuracy, "%.2f", split["accuracy"].get<double>());
    rows.push_back({name, split["images"].dump(), accuracy, split["faults"].dump()});
  }
  std::cout << "\n" << report::to_aligned({{"split", "images", "ACC %", "faults"}}, rows, 1);
  rows.clear();
  for (const json& one : value["approaches"]) {
    rows.push_back({one["key"], one["applies"] ? "applies" : "UNADAPTABLE", one["name"], one["reason"]});
  }
  std::cout << "\n" << report::to_aligned({{"approach", "", "name", "reason"}}, rows, 4);
}

json inspect_with_data(const Arguments& arguments, const std::string& model, const std::string& data) {
  const auto opened = open_ad_hoc(model, data, arguments, std::nullopt);
  json value = network_json(opened->subject->original());
  value["data"] = {{"classes", opened->subject->data().info().classes}, {"splits", splits_json(*opened)}};
  value["approaches"] = applicability(*opened);
  return value;
}

json inspect_with_shape(const Arguments& arguments, const std::string& model, const std::string& text) {
  std::vector<int64_t> shape = parse_shape(text);
  shape[0] = std::max<int64_t>(shape[0], 2);  // recording needs two inputs
  demand_file("MODEL", model);
  Config config;
  config.device = arguments.text("device").value_or("cpu");
  const DeviceChoice device = prepare_device(config, arguments);
  RandomStream stream(42);
  at::Tensor sample = at::empty(shape, at::kFloat);
  float* values = sample.data_ptr<float>();
  for (int64_t i = 0; i < sample.numel(); ++i) values[i] = static_cast<float>(stream.normal());
  Network network = Network::load(model, sample);
  network.to(device.first());
  network.verify(sample, preferred_batch(network));
  return network_json(network);
}

int inspect(const Arguments& arguments) {
  const std::string format = arguments.choice("format", {"text", "json"});
  const std::string& model = arguments.positional(0);
  const auto data = arguments.text("data"), shape = arguments.text("shape");
  if (data.has_value() == shape.has_value()) {
    throw UserError({"command line", "harness inspect",
                     data ? "--data and --shape" : "neither --data nor --shape",
                     "one of --shape N,C,H,W and --data FILE", ""});
  }
  const json value =
      data ? inspect_with_data(arguments, model, *data) : inspect_with_shape(arguments, model, *shape);
  if (format == "json") {
    std::cout << value.dump(2) << "\n";
  } else {
    print_text(value);
  }
  return 0;
}

}  // namespace

Command inspect_command() {
  return {{"inspect",
           "Shows the layers of a model; with data also its faults and which approaches apply.",
           {"MODEL"},
           {{"shape", OptionKind::single, "N,C,H,W", "shape of the input, where there is no data"},
            {"data", OptionKind::single, "FILE", "data file (HDF5)"},
            device_option(),
            threads_option(),
            {"format", OptionKind::single, "FORMAT", "text (default) or json"}}},
          inspect};
}

}  // namespace harness::cli

#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace harness {

enum class HyperparameterType { boolean, integer, number, text, table };

// One typed parameter of an approach. The config reader checks values against it before anything runs.
struct HyperparameterSpec {
  std::string name;
  HyperparameterType type = HyperparameterType::number;
  nlohmann::json default_value;                  // of `type`, or null where `nullable`
  std::string meaning;                           // one line
  std::string unit;                              // "steps"; "number", "word", "yes or no"
  std::string source;                            // one that a reader can open: "public code, ..."
  std::optional<double> minimum = std::nullopt;  // inclusive, numbers and those of tables only
  std::optional<double> maximum = std::nullopt;
  std::vector<std::string> choices = {};  // text only; empty: any text
  bool nullable = false;
  // Tables only, which are objects from names to numbers: which names are allowed, and that in words.
  std::function<bool(const std::string&)> is_key = nullptr;
  std::string keys = {};
};

// Checked values of an approach's parameters, with defaults. An unknown name or a wrong type aborts
// (interface_misuse()).
class Hyperparameters {
 public:
  Hyperparameters() = default;
  explicit Hyperparameters(nlohmann::json values) : values_(std::move(values)) {}
  bool boolean(const std::string& name) const;
  int64_t integer(const std::string& name) const;
  double number(const std::string& name) const;
  std::string text(const std::string& name) const;
  std::map<std::string, double> table(const std::string& name) const;
  bool is_null(const std::string& name) const;
  const nlohmann::json& values() const { return values_; }  // an object with one entry for each parameter

 private:
  nlohmann::json values_ = nlohmann::json::object();
};

enum class Level { model, layer, neuron, control, published };
const char* to_text(Level level);

// What our reading of an approach rests on, so that a reader of a table knows whose work a row is. The page
// of the approach says it in detail.
enum class Basis {
  none,               // of this project (controls), or not known (published models, programs of others)
  reference_code,     // public code by the authors
  publication,        // its text, in full
  toolkit_version,    // a public toolkit's version of it
  reconstruction,     // rebuilt from abstracts and summaries; the rest is filled in
  adaptation,         // a method for other faults, adapted to misclassification
  inferred_identity,  // which publication the study means is inferred
};
const char* to_text(Basis basis);  // "reference code"; empty for none

// What an approach declares: all that the config reader, `list` and the tables use.
struct ApproachInfo {
  std::string key;   // "AR"
  std::string name;  // "Arachne"
  Level level = Level::control;
  Basis basis = Basis::none;
  std::string publication = "";         // "ACM TOSEM 2023"
  int version = 1;                      // raised whenever results may change
  std::vector<std::string> needs = {};  // splits; without one of them it is UNADAPTABLE (missing_split)
  std::vector<std::string> uses = {};   // further splits that it gets if the data file has them
  std::vector<HyperparameterSpec> hyperparameters = {};
  bool random = true;                       // another seed makes another fix
  bool in_study = false;                    // one of the sixteen
  bool shadows = false;                     // written KEY:OTHER, imitates another approach (RAND:AR, CT:IR)
  std::vector<std::string> shadow_of = {};  // with shadows: keys that OTHER may be; empty: any
  bool alone = false;                       // with shadows: KEY alone is an approach as well
  std::vector<std::string> imitates = {};   // with shadows: keys that it supports; others are UNADAPTABLE
};

// Every approach that is linked in, sorted by key. Readers, plan and tables take it as an argument, so that
// core knows no approach.
using Catalog = std::vector<ApproachInfo>;
const ApproachInfo* find(const Catalog& catalog, const std::string& key);

}  // namespace harness

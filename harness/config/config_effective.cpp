#include "harness/config/config.hpp"

namespace harness {

namespace {

using nlohmann::json;

json number_or_null(const std::optional<double>& number) {
  return number ? json(*number) : json(nullptr);
}

json budget_of(const std::optional<Budget>& budget) {
  if (!budget) return nullptr;
  return {{"seconds", number_or_null(budget->seconds)},
          {"megabytes", number_or_null(budget->megabytes)},
          {"device_megabytes", number_or_null(budget->device_megabytes)}};
}

json list_of(const std::vector<std::filesystem::path>& files) {
  json list = json::array();
  for (const auto& file : files) list.push_back(file.string());
  return list;
}

json effective_attack(const AttackConfig& attack) {
  return {{"epsilon", attack.epsilon},
          {"epsilon_unit", attack.epsilon_in_pixels ? "pixel" : "input"},
          {"steps", attack.steps},
          {"relative_step", attack.relative_step ? json(*attack.relative_step) : json(nullptr)},
          {"random_start", attack.random_start},
          {"sample", attack.sample ? json(*attack.sample) : json("all")},
          {"bounds", attack.bounds ? json(*attack.bounds) : json("sample")},
          {"output", attack.on_logits ? "logits" : "as_is"},
          {"margin", attack.margin}};
}

json effective_subject(const SubjectConfig& subject) {
  json published = json::object();
  for (const PublishedModels& models : subject.published) published[models.key] = list_of(models.files);
  return {{"name", subject.name},
          {"model_name", subject.model_name},
          {"model", subject.model.string()},
          {"data", subject.data.string()},
          {"attack", subject.attack ? effective_attack(*subject.attack) : json(nullptr)},
          {"groups", subject.groups ? json(*subject.groups) : json(nullptr)},
          {"published", published},
          {"training", subject.training ? training_json(*subject.training) : json(nullptr)},
          {"history", list_of(subject.history)},
          {"budget", budget_of(subject.budget)}};
}

json effective_approach(const ApproachConfig& approach) {
  return {{"key", approach.shadow.empty() ? approach.key : approach.key + ":" + approach.shadow},
          {"as", approach.as},
          {"parameters", approach.hyperparameters.values()},
          {"budget", budget_of(approach.budget)}};
}

json effective_external(const ApproachConfig& approach) {
  return {{"key", approach.key},
          {"command", approach.external->command},
          {"needs", approach.external->needs},
          {"uses", approach.external->uses},
          {"as", approach.as},
          {"name", approach.name},
          {"level", to_text(approach.level)},
          {"parameters", approach.hyperparameters.values()},
          {"budget", budget_of(approach.budget)}};
}

}  // namespace

json training_json(const TrainingConfig& training) {
  return {{"optimizer", training.optimizer},
          {"learning_rate", training.learning_rate},
          {"momentum", training.momentum},
          {"weight_decay", training.weight_decay},
          {"batch", training.batch},
          {"epochs", training.epochs},
          {"augmentation", training.augmentation},
          {"initialiser", training.initialiser}};
}

json Config::effective() const {
  json value = {{"name", name},
                {"runs", runs},
                {"seed", seed},
                {"corrupted_below", corrupted_below},
                {"device", device},
                {"keep", keep},
                {"deterministic", deterministic},
                {"tf32", tf32},
                {"batch", batch ? json(*batch) : json(nullptr)},
                {"resident_megabytes", resident_megabytes},
                {"budget", budget_of(budget)},
                {"checkpoint_seconds", checkpoint_seconds},
                {"subjects", json::array()},
                {"approaches", json::array()}};
  for (const SubjectConfig& subject : subjects) value["subjects"].push_back(effective_subject(subject));
  for (const ApproachConfig& approach : approaches) {
    value["approaches"].push_back(approach.external ? effective_external(approach)
                                                    : effective_approach(approach));
  }
  return value;
}

}  // namespace harness

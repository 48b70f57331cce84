#include "harness/store/identity.hpp"

#include <set>

#include "harness/core/files.hpp"

namespace harness {

using nlohmann::json;

namespace {

template <typename Value>
json value_or_null(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

template <typename Value>
std::optional<Value> value_unless_null(const json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<Value>());
}

json json_of(const Identity::Subject& subject) {
  json value = {{"name", subject.name}, {"attack", subject.attack}, {"groups", subject.groups}};
  if (subject.training) value["training"] = *subject.training;
  return value;
}

Identity::Subject subject_of(const json& value) {
  Identity::Subject subject{value.at("name"), value.at("attack"), value.at("groups"), std::nullopt};
  if (value.contains("training")) subject.training = value["training"];
  return subject;
}

json json_of(const Identity::Approach& approach) {
  if (!approach.published.empty()) return {{"published", approach.published}};
  json value = {{"key", approach.key}, {"shadow", approach.shadow}, {"parameters", approach.parameters}};
  if (approach.program) {
    value["command"] = approach.program->command;
    value["needs"] = approach.program->needs;
    value["uses"] = approach.program->uses;
  }
  return value;
}

Identity::Approach approach_of(const json& value) {
  Identity::Approach approach;
  if (value.contains("published")) {
    approach.published = value["published"];
    return approach;
  }
  approach.key = value.at("key");
  approach.shadow = value.at("shadow");
  approach.parameters = value.at("parameters");
  if (value.contains("command")) {
    approach.program = Identity::Program{value["command"], value.at("needs"), value.at("uses")};
  }
  return approach;
}

json json_of(const std::map<std::string, std::optional<std::string>>& files) {
  json value = json::object();
  for (const auto& [name, digest] : files) value[name] = value_or_null(digest);
  return value;
}

// Digests of files that are not at hand say nothing: they go from both sides.
void drop_unknown_files(json* planned, json* recorded) {
  json& ours = (*planned)["files"];
  json& theirs = (*recorded)["files"];
  if (!theirs.is_object()) return;
  for (auto file = ours.begin(); file != ours.end();) {
    if (!file->is_null()) {
      ++file;
      continue;
    }
    theirs.erase(file.key());
    file = ours.erase(file);
  }
}

}  // namespace

void to_json(json& value, const Identity& identity) {
  value = {{"schema", identity.schema},
           {"subject", json_of(identity.subject)},
           {"approach", json_of(identity.approach)},
           {"version", identity.version},
           {"seed", identity.seed},
           {"config_seed", identity.config_seed},
           {"corrupted_below", identity.corrupted_below},
           {"batch", value_or_null(identity.batch)},
           {"deterministic", identity.deterministic},
           {"tf32", identity.tf32},
           {"device", identity.device},
           {"limit", identity.limit},
           {"metrics", identity.metrics},
           {"files", json_of(identity.files)}};
}

void from_json(const json& value, Identity& identity) {
  identity.schema = value.at("schema");
  identity.subject = subject_of(value.at("subject"));
  identity.approach = approach_of(value.at("approach"));
  identity.version = value.at("version");
  identity.seed = value.at("seed");
  identity.config_seed = value.at("config_seed");
  identity.corrupted_below = value.at("corrupted_below");
  identity.batch = value_unless_null<int64_t>(value.at("batch"));
  identity.deterministic = value.at("deterministic");
  identity.tf32 = value.at("tf32");
  identity.device = value.at("device");
  identity.limit = value.at("limit").get<std::map<std::string, int64_t>>();
  identity.metrics = value.at("metrics");
  identity.files.clear();
  for (const auto& [name, digest] : value.at("files").items()) {
    identity.files[name] = value_unless_null<std::string>(digest);
  }
}

std::string Identity::digest() const {
  return digest_of(json(*this).dump());
}

json Identity::of_fix() const {
  const json whole = *this;
  json part;
  for (const char* key :
       {"approach", "version", "seed", "batch", "deterministic", "tf32", "device", "files", "limit"}) {
    part[key] = whole.at(key);
  }
  part["limit"].erase("test");
  if (subject.training) part["training"] = *subject.training;
  return part;
}

json Identity::of_predictions(const json& fix) const {
  return {{"fix", digest_of(fix.dump())}, {"limit", limit}};
}

json Identity::of_attack(const json& predictions) const {
  return {{"predict", digest_of(predictions.dump())},
          {"subject", subject.name},  // the order of the images follows from it
          {"seed", config_seed},
          {"attack", subject.attack}};
}

json Identity::of_original() const {
  json part = *this;
  for (const char* key : {"approach", "version", "seed", "corrupted_below", "metrics"}) part.erase(key);
  part["subject"].erase("training");
  const auto digest = [&](const char* file) {
    const auto found = files.find(file);
    return found == files.end() ? json(nullptr) : value_or_null(found->second);
  };
  part["files"] = {{"model", digest("model")}, {"data", digest("data")}};
  return part;
}

Match compare(const Identity& planned, const json& recorded, Compare how) {
  if (!recorded.is_object()) return Match::different;
  json ours = planned, theirs = recorded;
  if (how == Compare::tables) {
    for (const char* shown : {"device", "metrics"}) {
      ours.erase(shown);
      theirs.erase(shown);
    }
    drop_unknown_files(&ours, &theirs);
  }
  if (ours == theirs) return Match::same;
  return same_but_for_version(std::move(ours), std::move(theirs)) ? Match::other_version : Match::different;
}

bool same_but_for_version(json one, json other) {
  if (!one.is_object() || !other.is_object()) return false;
  one.erase("version");
  other.erase("version");
  return one == other;
}

std::string version_in(const json& recorded) {
  return recorded.at("version");
}

json limit_in(const json& recorded) {
  if (!recorded.is_object()) return nullptr;
  json limit = recorded.value("limit", json());
  return limit.empty() ? json() : limit;
}

std::vector<std::string> differences(const json& recorded, const json& planned) {
  const json before = recorded.flatten(), now = planned.flatten();
  const auto value_in = [](const json& flat, const std::string& pointer) {
    const auto found = flat.find(pointer);  // what is empty comes out as null
    return found == flat.end() || found->is_null() ? std::string("none") : found->dump();
  };
  std::set<std::string> pointers;
  for (const json* flat : {&before, &now}) {
    for (const auto& [pointer, value] : flat->items()) pointers.insert(pointer);
  }
  std::vector<std::string> found;
  for (const std::string& pointer : pointers) {
    const std::string was = value_in(before, pointer), is = value_in(now, pointer);
    if (was == is) continue;
    const std::string limit = "/limit/";
    const std::string name = pointer.starts_with(limit) ? "--limit " + pointer.substr(limit.size())
                             : pointer.empty()          ? "all of it"
                                                        : pointer.substr(1);
    found.push_back(name + ": " + was + ", now " + is);
  }
  return found;
}

}  // namespace harness

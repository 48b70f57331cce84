#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/core/json_reader.hpp"

// Every object of the configuration (a subject, an attack, a budget) is described once, by a table of fields.
// The reader, the effective print and configs/schema.json are made from these tables.
namespace harness {

class Overrides;

using Schema = nlohmann::ordered_json;  // keys stay in the order of the tables

// What reading may depend on beside the JSON.
struct ReadContext {
  const Catalog& catalog;
  ConfigOptions options = {};
  std::filesystem::path folder = {};  // paths are relative to it
  Overrides* overrides = nullptr;     // applied to the files of subjects
};

// How values of one kind are read from JSON, printed as JSON and described in the schema.
template <typename Value>
struct ValueKind {
  // Returns nothing if the value is wrong, which is reported.
  std::function<std::optional<Value>(const nlohmann::json&, const JsonPlace&, const ReadContext&)> read;
  std::function<nlohmann::json(const Value&)> print;
  Schema schema;
};

// One key of an object. Fields are read in the order of their table. An absent key does not change the
// object.
template <typename Object>
struct Field {
  std::string key;
  std::string meaning;  // one line
  std::function<void(const nlohmann::json&, const JsonPlace&, const ReadContext&, Object*)> read = nullptr;
  std::function<nlohmann::json(const Object&)> print = nullptr;  // empty: not printed
  Schema schema = Schema::object();                              // empty: anything
  bool required = false;
};

// A field whose value is a member of the object. A wrong value does not change the member.
template <typename Object, typename Value>
Field<Object> field(std::string key, Value Object::*member, ValueKind<Value> kind, std::string meaning) {
  Field<Object> result{std::move(key), std::move(meaning)};
  result.schema = kind.schema;
  result.print = [member, print = kind.print](const Object& object) { return print(object.*member); };
  result.read = [member, read = kind.read](const nlohmann::json& value, const JsonPlace& place,
                                           const ReadContext& context, Object* object) {
    if (auto converted = read(value, place, context)) object->*member = std::move(*converted);
  };
  return result;
}

template <typename Object>
Field<Object> required(Field<Object> field) {
  field.required = true;
  return field;
}

// `next(place, context, object)` runs after the key was read. It sets members that depend on the value, or
// reports a value that does not fit those read before.
template <typename Object, typename Next>
Field<Object> followed_by(Field<Object> field, Next next) {
  field.read = [read = field.read, next](const nlohmann::json& value, const JsonPlace& place,
                                         const ReadContext& context, Object* object) {
    read(value, place, context, object);
    next(place, context, object);
  };
  return field;
}

template <typename Object>
struct ObjectTable {
  std::string meaning;
  std::vector<Field<Object>> fields;
  // Rules on several fields: checked after all fields are read, and the same for the schema.
  std::function<void(const nlohmann::json&, const JsonPlace&, const Object&)> check = nullptr;
  Schema rules = Schema::object();
  Object absent = {};  // the object with the defaults of all keys
};

// Reads an object into `start`, which has the defaults. Wrong values and unknown keys are reported.
template <typename Object>
Object read_object(const ObjectTable<Object>& table, const nlohmann::json& value, const JsonPlace& place,
                   const ReadContext& context, Object start) {
  ObjectReader reader(value, place);
  for (const Field<Object>& field : table.fields) {
    const auto* given = field.required ? reader.require(field.key) : reader.find(field.key);
    if (given != nullptr) field.read(*given, place.at(field.key), context, &start);
  }
  if (table.check && reader.is_object()) table.check(value, place, start);
  reader.finish();
  return start;
}

template <typename Object>
nlohmann::json print_object(const ObjectTable<Object>& table, const Object& object) {
  nlohmann::json printed = nlohmann::json::object();
  for (const Field<Object>& field : table.fields) {
    if (field.print) printed[field.key] = field.print(object);
  }
  return printed;
}

template <typename Object>
Schema object_schema(const ObjectTable<Object>& table) {
  Schema properties = {{"$schema", true}, {"comment", true}};
  Schema required = Schema::array();
  for (const Field<Object>& field : table.fields) {
    Schema& property = properties[field.key] = {{"description", field.meaning}};
    property.update(field.schema);
    if (field.required) {
      required.push_back(field.key);
    } else if (field.print) {
      // no text may be empty: an empty one means that the default depends on other values
      if (const auto value = field.print(table.absent); value != "") property["default"] = value;
    }
  }
  Schema schema = {{"description", table.meaning}, {"type", "object"}};
  if (!required.empty()) schema["required"] = required;
  schema["additionalProperties"] = false;
  schema["properties"] = properties;
  schema.update(table.rules);
  return schema;
}

inline Schema reference_to(const std::string& definition) {
  return {{"$ref", "#/definitions/" + definition}};
}

// An object inside another one. `definition`: its name in the schema. Keeps a reference to `table`.
template <typename Object>
ValueKind<Object> object_kind(const std::string& definition, const ObjectTable<Object>& table) {
  return {[&table](const nlohmann::json& value, const JsonPlace& place, const ReadContext& context) {
            return std::optional(read_object(table, value, place, context, table.absent));
          },
          [&table](const Object& object) { return print_object(table, object); }, reference_to(definition)};
}

}  // namespace harness

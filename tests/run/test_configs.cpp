// The configurations of configs/: all of them can be read with the approaches that there are, whatever data
// is there, and study.json has the whole grid of the study.
#include <algorithm>
#include <set>

#include "harness/approach/approach.hpp"
#include "harness/config/config.hpp"
#include "harness/core/files.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
using nlohmann::json;

namespace {

// Unknown approaches, and parameters that do not exist or are out of their range, throw.
Config read(const std::string& file) {
  return read_config(file, approach_catalog(), {.set = {}, .need_files = false});
}

std::set<std::string> keys_of(const Config& config) {
  std::set<std::string> keys;
  for (const json& approach : config.effective()["approaches"]) keys.insert(approach["key"]);
  return keys;
}

}  // namespace

TEST_CASE("every configuration of configs/ can be read, and says what its own parameters say") {
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator("configs")) {
    if (file.path().extension() != ".json" || file.path().filename() == "schema.json") continue;
    INFO(file.path().string());
    ++files;
    const json effective = read(file.path().string()).effective();
    const json written = json::parse(read_text(file.path()));
    if (!written["approaches"].is_array()) continue;
    for (const json& approach : written["approaches"]) {
      if (!approach.is_object() || !approach.contains("parameters")) continue;
      INFO(approach["key"]);
      const std::string name = approach.value("as", approach["key"].get<std::string>());
      const auto found = std::find_if(effective["approaches"].begin(), effective["approaches"].end(),
                                      [&](const json& one) { return one["as"] == name; });
      REQUIRE(found != effective["approaches"].end());
      for (const auto& [parameter, value] : approach["parameters"].items()) {
        INFO(parameter);
        REQUIRE((*found)["parameters"].contains(parameter));
        CHECK((*found)["parameters"][parameter] == value);
      }
    }
  }
  CHECK(files >= 6);
}

TEST_CASE("study.json has the subjects, runs and approaches of all.json, under the approaches' own keys") {
  const Config study = read("configs/study.json"), all = read("configs/all.json");
  CHECK(study.effective()["name"] == "study_settings");
  for (const char* key : {"subjects", "runs", "seed"}) CHECK(study.effective()[key] == all.effective()[key]);
  CHECK(keys_of(study) == keys_of(all));
  for (const json& approach : study.effective()["approaches"]) CHECK(approach["as"] == approach["key"]);
  const json written = json::parse(read_text("configs/study.json"));
  for (const json& approach : written["approaches"]) {
    INFO(approach);
    if (approach.is_object() && approach.contains("parameters")) {
      CHECK(!approach.value("comment", "").empty());  // says where these settings come from
    }
  }
}

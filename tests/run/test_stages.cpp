#include <nlohmann/json.hpp>

#include "harness/cell/stages.hpp"
#include "harness/core/files.hpp"
#include "harness/store/sealed.hpp"
#include "tests/support.hpp"

// Results of an earlier version: what lacks something is computed again, and ends no cell.
using namespace harness;
using harness::testing::TemporaryFolder;
using nlohmann::json;

TEST_CASE("a stage that lacks any part of its content is no stage", "[stages]") {
  const TemporaryFolder folder;
  const json nothing = json::object();
  const std::vector<std::pair<cell::Stage, json>> stages = {
      {cell::Stage::fix, {{"record", nothing}, {"made_by", nothing}, {"nondeterministic", json::array()}}},
      {cell::Stage::predict,
       {{"phases", nothing},
        {"made_by", nothing},
        {"nondeterministic", json::array()},
        {"not_finite", ""},
        {"random", ""},
        {"accuracy", 50.0}}},
      {cell::Stage::attack,
       {{"phases", nothing}, {"made_by", nothing}, {"nondeterministic", json::array()}, {"impossible", ""}}}};
  for (const auto& [stage, content] : stages) {
    INFO(to_text(stage));
    const auto file = folder / (std::string(to_text(stage)) + ".json");
    cell::write_stage(folder.path(), stage,
                      {.identity = {{"of", "a cell"}}, .content = content, .files = {}});
    REQUIRE(cell::read_stage(folder.path(), stage));
    const json whole = read_sealed(file);
    for (const auto& part : content.items()) {
      INFO(part.key());
      json fewer = whole;
      fewer["content"].erase(part.key());
      write_sealed(file, fewer);
      CHECK_FALSE(cell::read_stage(folder.path(), stage));
    }
    for (const char* part : {"schema", "identity", "content", "files"}) {
      INFO(part);
      json fewer = whole;
      fewer.erase(part);
      write_sealed(file, fewer);
      CHECK_FALSE(cell::read_stage(folder.path(), stage));
    }
    write_sealed(file, whole);
    CHECK(cell::read_stage(folder.path(), stage));
  }
}

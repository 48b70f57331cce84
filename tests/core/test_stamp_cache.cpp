#include <fstream>

#include "harness/core/files.hpp"
#include "harness/core/stamp_cache.hpp"
#include "harness/store/record_index.hpp"
#include "harness/store/sealed.hpp"
#include "tests/support.hpp"

using namespace harness;
using harness::testing::TemporaryFolder;
using nlohmann::json;
namespace fs = std::filesystem;

TEST_CASE("what is known of a file holds until the file changes") {
  const TemporaryFolder folder;
  using Cache = StampCache<std::string, true>;
  CHECK_FALSE(Cache::stamp_of(folder / "a"));
  std::ofstream(folder / "a") << "four";
  const auto stamp = Cache::stamp_of(folder / "a");
  REQUIRE(stamp);
  CHECK(Cache::bytes_in(*stamp) == 4);
  Cache cache;
  CHECK(cache.find("a", *stamp) == nullptr);
  cache.set("a", *stamp, "known");
  REQUIRE(cache.find("a", *stamp) != nullptr);
  CHECK(*cache.find("a", *stamp) == "known");
  cache.add("a", *stamp, "of an earlier process");
  CHECK(*cache.find("a", *stamp) == "known");
  fs::last_write_time(folder / "a", fs::last_write_time(folder / "a") + std::chrono::seconds(1));
  CHECK(cache.find("a", *Cache::stamp_of(folder / "a")) == nullptr);
  // without the device: the other four numbers
  const auto short_stamp = StampCache<int, false>::stamp_of(folder / "a");
  REQUIRE(short_stamp);
  CHECK(short_stamp->size() == 4);
  CHECK(std::equal(short_stamp->begin(), short_stamp->end(), Cache::stamp_of(folder / "a")->begin() + 1));
  CHECK((StampCache<int, false>::bytes_in(*short_stamp)) == 4);
}

TEST_CASE("digests.json has a line of the form that it had for each large file") {
  const TemporaryFolder folder;
  const fs::path large = folder / "large", small = folder / "small";
  std::ofstream(large) << std::string(5000000, 'x');
  std::ofstream(small) << "x";
  digest_of_file(large);
  digest_of_file(small);
  save_digests(folder / "digests.json");
  const json written = read_json(folder / "digests.json");
  CHECK_FALSE(written.contains(digest_of(fs::absolute(small).string())));
  const json& entry = written.at(digest_of(fs::absolute(large).string()));
  CHECK(entry.at(0) == json(*StampCache<int, true>::stamp_of(large)));
  CHECK(entry.at(1) == digest_of_file(large));
  CHECK(entry.size() == 2);
}

TEST_CASE("records.json has the form that it had, and saves reading records that have not changed") {
  const TemporaryFolder folder;
  const ResultsTree tree(folder.path());
  PlannedCell planned;
  planned.cell = {"S", "Net", "AR", 1};
  planned.seal();
  Record record;
  record.cell = planned.cell;
  record.digest = planned.digest;
  record.status = Status::failure;
  record.reason = "crashed: why";
  record.phases = {{"fix", 1.5}, {"load", 0.25}};
  make_folders(tree.cell(planned.cell));
  write_sealed(tree.record(planned.cell), record.to_json());
  RecordIndex index(tree);
  CHECK(index.look(planned).state == CellState::finished);
  index.save();
  const fs::path file = folder / "records.json";
  const json stamp = json(*StampCache<int, false>::stamp_of(tree.record(planned.cell)));
  const json expected = {
      {"schema", kRecordSchema},
      {"records", {{"S/AR/1", {stamp, planned.digest, 2, "crashed: why", 1.75, false, ""}}}}};
  CHECK(read_json(file) == expected);
  // an entry with another reason is believed while the record's stamp is the same, and no longer
  json other = expected;
  other["records"]["S/AR/1"][3] = "crashed: as the cache says";
  write_atomically(file, other.dump());
  CHECK(RecordIndex(tree).look(planned).summary->reason == "crashed: as the cache says");
  write_sealed(tree.record(planned.cell), record.to_json());
  CHECK(RecordIndex(tree).look(planned).summary->reason == "crashed: why");
  write_atomically(file, "no JSON");
  CHECK(RecordIndex(tree).look(planned).summary->reason == "crashed: why");
}

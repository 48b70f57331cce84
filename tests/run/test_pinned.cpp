// What lies on the disks of users, to the last bit: seeds, identities of cells, records, plans, checkpoints.
// Nothing here depends on the machine, its devices or its threads.
#include <ATen/ATen.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>

#include "harness/approach/approach.hpp"
#include "harness/cell/checkpoint.hpp"
#include "harness/cell/stages.hpp"
#include "harness/core/files.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/metrics/metric.hpp"
#include "harness/plan/plan_file.hpp"
#include "harness/plan/shards.hpp"
#include "harness/store/sealed.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
using nlohmann::json;

namespace {

// The schema that all values in this file are of.
constexpr int kSchema = 2;
const char* const kMessage =
    "Finished cells of users are found by these values. They change together with kRecordSchema "
    "(harness/store/record.hpp) and kSchema here, or not at all.";

std::string hexadecimal(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

HyperparameterSpec spec(const std::string& name, HyperparameterType type, const json& value) {
  return {.name = name, .type = type, .default_value = value, .meaning = "", .unit = "", .source = ""};
}

// One parameter of each type, and a control; no approach of the program, as those change by their version.
Catalog catalog() {
  ApproachInfo plain{.key = "P", .name = "Plain", .level = Level::neuron, .version = 3, .needs = {"repair"}};
  plain.hyperparameters = {
      spec("count", HyperparameterType::integer, 20), spec("rate", HyperparameterType::number, 0.1),
      spec("way", HyperparameterType::text, "short"), spec("guard", HyperparameterType::boolean, true),
      spec("limit", HyperparameterType::number, nullptr)};
  plain.hyperparameters.back().nullable = true;
  const ApproachInfo none{.key = "NONE", .name = "No fix"};
  const ApproachInfo control{.key = "Q", .name = "Control", .version = 2, .shadows = true, .imitates = {"P"}};
  return {none, plain, control};
}

json configuration() {
  return {{"name", "pinned"},
          {"subjects",
           {{{"name", "S"},
             {"model_name", "Net"},
             {"model", "net.pt"},
             {"data", "data.h5"},
             {"attack", {{"epsilon", 0.15}, {"sample", 100}}},
             {"training", {{"optimizer", "sgd"}, {"learning_rate", 0.01}, {"batch", 32}, {"epochs", 3}}}}}},
          {"approaches",
           {"NONE",
            "P",
            {{"key", "P"}, {"as", "P_long"}, {"parameters", {{"way", "long"}, {"limit", 4}}}},
            "Q:P"}},
          {"runs", 2},
          {"seed", 42}};
}

// Its plan as "id seed digest", a cell a line. Metrics come and go without the schema: they are left out.
class Pinned {
 public:
  explicit Pinned(const std::function<void(json&)>& change = {}, const ConfigOptions& options = {}) {
    std::ofstream(folder_ / "net.pt") << "a model";
    std::ofstream(folder_ / "data.h5") << "data";
    std::ofstream(folder_ / "program.py") << "a program";
    std::ofstream(folder_ / "early.pt") << "an earlier model";
    std::ofstream(folder_ / "theirs.pt") << "a published model";
    json value = configuration();
    if (change) change(value);
    std::ofstream(folder_ / "c.json") << value.dump();
    config_ = read_config(folder_ / "c.json", catalog(), options);
    plan_ = plan::make_plan(config_, catalog(), "cpu");
    for (plan::PlanEntry& entry : plan_) {
      entry.planned.identity.metrics = "some";
      entry.planned.seal();
    }
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    for (const plan::PlanEntry& entry : plan_) {
      lines.push_back(entry.planned.cell.text() + " " + hexadecimal(entry.planned.seed) + " " +
                      entry.planned.digest);
    }
    return lines;
  }
  const Config& config() const { return config_; }
  const std::vector<plan::PlanEntry>& plan() const { return plan_; }
  const PlannedCell& cell(const std::string& id) const {
    for (const plan::PlanEntry& entry : plan_) {
      if (entry.planned.cell.text() == id) return entry.planned;
    }
    throw std::runtime_error("no cell " + id);
  }

 private:
  TemporaryFolder folder_;
  Config config_;
  std::vector<plan::PlanEntry> plan_;
};

Record some_record() {
  Record record;
  record.cell = {"S", "Net", "P", 1};
  record.key = "P";
  record.name = "Plain";
  record.level = Level::neuron;
  record.in_study = true;
  record.seed = 0x0123456789abcdef;
  record.status = Status::ok;
  record.reason = "note: nothing";
  record.metrics = {{"ACC", "percent", 99.5, ""}, {"ASR", "percent", std::nullopt, "no_attack: none"}};
  record.phases = {{"fix", 1.25}};
  record.counters = {{"evaluations", 7}};
  record.scalars = {{"best_fitness", 0.1}};
  record.series = {{"best_fitness", {0.5, 0.1}}};
  record.invariants = {{"untouched", true, ""}};
  record.digest = "00112233445566778899aabbccddeeff";
  record.classes = 10;
  record.group_names = {"light", "dark"};
  record.device = "CPU";
  record.threads = 1;
  record.provenance = {{"identity", {{"schema", kSchema}}}};
  return record;
}

}  // namespace

TEST_CASE("the values in this file are of the schema that the program writes", "[pinned]") {
  INFO(kMessage);
  REQUIRE(kRecordSchema == kSchema);
}

TEST_CASE("seeds of runs, and those derived from them, are those that they were", "[pinned]") {
  INFO(kMessage);
  CHECK(hexadecimal(derive_seed(42, "MNIST/AR/1")) == "ae3714bd94358f2c");
  CHECK(hexadecimal(derive_seed(42, "MNIST/RAND:AR/3")) == "3ac2ae82e32069d9");
  CHECK(hexadecimal(derive_seed(derive_seed(42, "MNIST/AR/1"), "search")) == "5416d2db105a4de1");
  RandomStream stream(derive_seed(derive_seed(42, "MNIST/AR/1"), "search"));
  CHECK(hexadecimal(stream.bits()) == "12306c66125758ef");
  CHECK(hexadecimal(stream.bits()) == "9c375e21b64641fb");
}

TEST_CASE("cells of a plan have the seeds and digests that they had", "[pinned]") {
  INFO(kMessage);
  CHECK(Pinned().lines() ==
        std::vector<std::string>{"S/NONE/1 f22595c8c2df10bb b2a5d38b2a7bf49336e980ed5c01b79a",
                                 "S/NONE/2 d95e26108d5a39a0 4cb6ed57cfc50935ed363a8fbff2bafe",
                                 "S/P/1 a10abf44027026ac e5a1e9344ca7941eb57e878e95edba90",
                                 "S/P/2 e51d32a9bb1f9de2 38a2391ded162c0cdbddffce8cba0dfc",
                                 "S/P_long/1 b803d57b0281d9e7 1bd2a93849181867e4ac0424b883fc90",
                                 "S/P_long/2 a2140f913faceb19 e16ad64217bfef4f9237f7c4a1957fef",
                                 "S/Q:P/1 ef8ebf6a1977a284 271ce7e42c6c50512918188a5b4b5895",
                                 "S/Q:P/2 1bc2ddbbce9ad0c1 bffb1907efa46cfb23b265070c40db09"});
}

TEST_CASE("every setting that makes cells outdated changes their digest, to the value it had", "[pinned]") {
  INFO(kMessage);
  const std::vector<std::tuple<std::string, json, std::string>> settings = {
      {"/seed", 43, "86b9292cf269152ed2e1904d1bfaef15"},
      {"/batch", 64, "11ef85390440535b9a6d361941929f76"},
      {"/deterministic", false, "170db2e55efa9079eb20e23a357664d9"},
      {"/tf32", true, "44af1c2fbbeac4c2dc39adf65583b1f1"},
      {"/corrupted_below", 0.25, "d287541a50a47feea6e8b71c30e1a373"},
      {"/subjects/0/attack/epsilon", 0.2, "9c850f9d9a9db9913fefd7b6909f2a7c"},
      {"/subjects/0/attack/steps", 10, "7f2274171a3a60734f7c037cce979c60"},
      {"/subjects/0/attack/margin", false, "c8dc1f8f0413843c2ff3753c11db2b3c"},
      {"/subjects/0/attack/output", "logits", "c2869f507ef747d31364f3d1162d94ba"},
      {"/subjects/0/training/learning_rate", 0.1, "3c020d0feea6857fd1896d2cd74188e5"},
      {"/subjects/0/training/augmentation", "flip", "3a455f9fbbfbd59766f20a90795d99b6"},
  };
  const std::string before = Pinned().cell("S/P/1").digest;
  for (const auto& [pointer, value, expected] : settings) {
    const Pinned changed([&](json& config) { config[json::json_pointer(pointer)] = value; });
    INFO(pointer << " = " << value);
    CHECK(changed.cell("S/P/1").digest != before);
    CHECK(changed.cell("S/P/1").digest == expected);
  }
  // and those that decide no result
  for (const auto& [pointer, value] :
       std::vector<std::pair<std::string, json>>{{"/runs", 5},
                                                 {"/keep", "none"},
                                                 {"/device", "cpu"},
                                                 {"/budget", {{"seconds", 10}}},
                                                 {"/subjects/0/model_name", "Another"},
                                                 {"/name", "other"}}) {
    const Pinned changed([&](json& config) { config[json::json_pointer(pointer)] = value; });
    INFO(pointer << " = " << value);
    CHECK(changed.cell("S/P/1").digest == before);
  }
}

TEST_CASE("identities of stages are those that they were", "[pinned]") {
  INFO(kMessage);
  const Identity cell = Pinned().cell("S/P_long/2").identity;
  const json fix = cell.of_fix(), predict = cell.of_predictions(fix), attack = cell.of_attack(predict);
  CHECK(digest_of(fix.dump()) == "fb23684fd24b69d80f92837bf69c7ea6");
  CHECK(digest_of(predict.dump()) == "2074665539c8aa0bd05d2fc83a396043");
  CHECK(digest_of(attack.dump()) == "d391c35bc99b6b7da1fe79e49c114a95");
}

// Programs of somebody else, published models and earlier models of the subject.
TEST_CASE("cells of files beyond model and data have the digests that they had", "[pinned]") {
  INFO(kMessage);
  const Pinned pinned([](json& config) {
    config["subjects"][0]["published"] = {{"AP", {"theirs.pt"}}};
    config["subjects"][0]["history"] = {"early.pt"};
    config["approaches"].push_back(
        {{"key", "X"}, {"command", {"python3", "program.py"}}, {"needs", {"repair"}}, {"uses", {"train"}}});
  });
  CHECK(pinned.cell("S/P/1").digest == "2eee05336d26cda06a70e0f7de804857");
  CHECK(pinned.cell("S/X/1").digest == "cc1118604acfae5b66d5eefed2c2addc");
  CHECK(pinned.cell("S/published:AP/1").digest == "9390bd26475518461692102086bb2d53");
  CHECK(digest_of(pinned.cell("S/X/1").identity.of_fix().dump()) == "9a3659248a73a0c52af57975834a0682");
  CHECK(digest_of(pinned.cell("S/published:AP/1").identity.of_fix().dump()) ==
        "1abbfb3caa31d3c4c7de93caa8a9c329");
  CHECK(digest_of(pinned.cell("S/X/1").identity.of_original().dump()) == "313a6e2169a5a94f4e66f99e333a5a58");
}

TEST_CASE("an identity comes back from its JSON form, and every key of a subject decides results or not") {
  const Pinned pinned(
      [](json& config) {
        config["subjects"][0]["published"] = {{"AP", {"theirs.pt", "absent.pt"}}};
        config["approaches"].push_back({{"key", "X"}, {"command", {"python3", "program.py"}}});
        config["batch"] = 64;
      },
      {.set = {}, .need_files = false});
  for (const plan::PlanEntry& entry : pinned.plan()) {
    INFO(entry.planned.cell.text());
    const json value = entry.planned.identity;
    CHECK(value.get<Identity>().digest() == entry.planned.digest);
    CHECK(compare(entry.planned.identity, value, Compare::exact) == Match::same);
  }
  const json decides = pinned.cell("S/P/1").identity;
  const std::set<std::string> decides_nothing = {"model",     "model_name", "data",
                                                 "published", "history",    "budget"};
  const json subject = pinned.config().effective()["subjects"][0];
  for (const auto& [key, value] : subject.items()) {
    INFO(key << ": a key of a subject that decides results belongs into Identity::Subject");
    CHECK(decides["subject"].contains(key) != (decides_nothing.count(key) > 0));
  }
}

TEST_CASE("the demo's cells have the seeds and digests that they had", "[pinned]") {
  INFO(kMessage);
  const Config config =
      read_config("configs/demo.json", approach_catalog(), {.set = {}, .need_files = false});
  for (const plan::PlanEntry& entry : plan::make_plan(config, approach_catalog(), "cpu")) {
    if (entry.planned.cell.text() == "digits/AR/2")
      CHECK(hexadecimal(entry.planned.seed) == "036c94665e60a2a3");
    if (entry.planned.cell.text() != "digits/NONE/1") continue;  // which no parameter decides
    CHECK(hexadecimal(entry.planned.seed) == "9344abe733b55672");
    json identity = entry.planned.identity;
    identity["metrics"] = "some";
    identity["files"] = nullptr;  // as the data is prepared, or not
    CHECK(digest_of(identity.dump()) == "51fbe445d483c2c8fe742ad9b8785a81");
  }
}

TEST_CASE("a record is written as it was", "[pinned]") {
  INFO(kMessage);
  std::string keys;
  const json record = some_record().to_json();
  for (const auto& [key, value] : record.items()) keys += key + " ";
  CHECK(
      keys ==
      "cell counters data invariants machine metrics phases provenance reason scalars schema series status ");
  const TemporaryFolder folder;
  write_sealed(folder / "record.json", some_record().to_json());
  CHECK(digest_of(some_record().to_json().dump()) == "d75798b5aabfc8d5e2e4e1ae8c4b25a0");
  CHECK(digest_of(bytes_of(folder / "record.json")) == "41df5882a34a72662787f28d517d3ed0");
  CHECK(Record::from_file(folder / "record.json").to_json() == some_record().to_json());
}

TEST_CASE("plan.json and the files of stages are written as they were", "[pinned]") {
  INFO(kMessage);
  const TemporaryFolder folder;
  const Pinned pinned;
  const ResultsTree tree(folder / "results");
  std::vector<plan::Cost> costs(pinned.plan().size(), {10.5, "its own record"});
  costs[1].seconds.reset();
  plan::write_plan(tree, pinned.config(), pinned.plan(), plan::freeze(pinned.plan(), costs, 2));
  CHECK(digest_of(bytes_of(tree.plan())) == "ac4523705a4e3f0bf6a18297f7cbf398");
  std::ofstream(folder / "fixed.pt") << "a model";
  cell::write_stage(folder.path(), cell::Stage::fix,
                    {.identity = pinned.cell("S/P/1").identity.of_fix(),
                     .content = {{"record", json::object()},
                                 {"made_by", json::object()},
                                 {"nondeterministic", json::array()}},
                     .files = {"fixed.pt"}});
  CHECK(digest_of(bytes_of(folder / "fix.json")) == "d428853d86e5a6195cfdfe40d5a04215");
}

TEST_CASE("a checkpoint is written as it was", "[pinned]") {
  INFO(kMessage);
  const TemporaryFolder folder;
  cell::write_checkpoint(
      folder / "checkpoint.bin", "0123456789abcdef0123456789abcdef",
      {.state = {{"best", at::tensor({1.5f, -2.0f}).view({1, 2})}, {"step", at::scalar_tensor(7, at::kLong)}},
       .spent = {.seconds = 12.5, .phases = {{"search", 12.25}}, .interruptions = 1},
       .redo = "token",
       .scratch = "external-1"});
  const std::string bytes = bytes_of(folder / "checkpoint.bin"), magic = "checkpoint 1\n";
  uint64_t length = 0;
  REQUIRE(bytes.size() > magic.size() + sizeof length);
  CHECK(bytes.substr(0, magic.size()) == magic);
  std::memcpy(&length, bytes.data() + magic.size(), sizeof length);
  const std::string header = bytes.substr(magic.size() + sizeof length, length);
  CHECK(header ==
        R"({"identity":"0123456789abcdef0123456789abcdef","redo":"token","scratch":"external-1","spent":)"
        R"({"interruptions":1,"phases":{"search":12.25},"seconds":12.5},"tensors":)"
        R"([{"name":"best","shape":[1,2],"type":"Float"},{"name":"step","shape":[],"type":"Long"}]})");
  CHECK(digest_of(bytes) == "e08dedaffd57726358b8ee52235cbd37");
}

// An approach's defaults and version decide its cells, too. A new one needs no line here.
TEST_CASE("defaults of an approach change together with its version", "[pinned]") {
  const std::map<std::string, std::pair<int, std::string>> pinned = {
      {"3M", {2, "c1edbaade4a6a9ea7e3ec7064118c02c"}},   {"AR", {5, "30dece0f27abb5991855db5365f49342"}},
      {"CARE", {2, "425474325350b2ae01bc8d4b9e53ad65"}}, {"CT", {2, "0117bf19431890048d08811e4e6c52b8"}},
      {"DTR", {2, "8ed242466529ae26f5a89be3028b1336"}},  {"GM", {3, "2e6d2caa97d03195325e7eb07292fb9e"}},
      {"IN", {3, "00fa18bc322517d27bcc85cfd52c7b2d"}},   {"IR", {3, "1d6818552c1812dd77bc94391ba7e92a"}},
      {"NNR", {2, "35f35ba2cd6e7069be961c84d0783985"}},  {"NONE", {1, "dc7048f8f8747f561349cde127705c16"}},
      {"NR", {3, "d179e513bee7a5a1c20be3e98aaad163"}},   {"RA", {2, "79bd823effa1b5fc9a1c788855032a7d"}},
      {"RAND", {1, "dc7048f8f8747f561349cde127705c16"}}, {"VERE", {2, "c5d43f6c4a2d53ce8044abb234048e1c"}}};
  for (const ApproachInfo& info : approach_catalog()) {
    const std::string defaults = digest_of(hyperparameters_of(info, {}).values().dump());
    const auto known = pinned.find(info.key);
    if (known == pinned.end()) continue;
    INFO(info.key << ": raise `version` where results change, and write both values here");
    CHECK(info.version == known->second.first);
    CHECK(defaults == known->second.second);
  }
}

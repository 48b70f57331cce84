#include <algorithm>
#include <cmath>
#include <set>

#include "harness/config/config.hpp"
#include "harness/config/value_kinds.hpp"
#include "harness/core/files.hpp"
#include "tests/support.hpp"

using namespace harness;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

const fs::path kExamples = "tests/core/examples";

Catalog test_catalog() {
  ApproachInfo apricot{.key = "AP", .name = "Apricot", .level = Level::model, .in_study = true};
  ApproachInfo arachne{.key = "AR", .name = "Arachne", .level = Level::neuron, .in_study = true};
  arachne.hyperparameters = {
      {"generations", HyperparameterType::integer, 100, "search length", "", "publication", 1, 10000},
      {"fraction", HyperparameterType::number, 0.1, "of negatives", "", "publication", 0, 1},
      {"front",
       HyperparameterType::text,
       "pareto",
       "which weights",
       "",
       "publication",
       {},
       {},
       {"pareto", "random"}},
      {"stop_early", HyperparameterType::boolean, true, "", "", "publication"},
      {"limit", HyperparameterType::integer, nullptr, "", "", "publication", 1, {}, {}, true}};
  ApproachInfo continued{.key = "CT", .name = "Continued training", .shadows = true, .shadow_of = {"AP"}};
  ApproachInfo none{.key = "NONE", .name = "No fix"};
  ApproachInfo random{.key = "RAND", .name = "Random weights", .shadows = true};
  random.hyperparameters = {{"weights", HyperparameterType::integer, 10, "", "", "publication", 1},
                            {"fraction", HyperparameterType::number, 0.9, "", "", "publication", 0, 1}};
  return {apricot, arachne, continued, none, random};
}

// Problems of reading, or none.
std::vector<Problem> problems_of(const fs::path& file, const ConfigOptions& options = {}) {
  try {
    read_config(file, test_catalog(), options);
  } catch (const UserError& error) {
    return error.problems();
  }
  return {};
}

std::vector<std::string> places_of(const std::vector<Problem>& problems) {
  std::vector<std::string> places;
  for (const Problem& problem : problems) places.push_back(problem.place);
  std::sort(places.begin(), places.end());
  return places;
}

void check_places(const std::string& folder) {
  const json table = read_json(kExamples / (folder + "_places.json"));
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(kExamples / folder)) {
    INFO(entry.path());
    const std::string stem = entry.path().stem().string();
    REQUIRE(table.contains(stem));
    auto wanted = table[stem].get<std::vector<std::string>>();
    std::sort(wanted.begin(), wanted.end());
    const std::vector<Problem> problems = problems_of(entry.path());
    CHECK(places_of(problems) == wanted);
    for (const Problem& problem : problems) {
      CHECK_FALSE(problem.file.empty());
      CHECK_FALSE(problem.found.empty());
      CHECK_FALSE(problem.expected.empty());
    }
    ++count;
  }
  CHECK(count == table.size());
}

std::string suggestion_of(const std::string& example) {
  const std::vector<Problem> problems = problems_of(kExamples / (example + ".json"));
  return problems.empty() ? "no problem" : problems[0].suggestion;
}

// A config in a folder of its own, beside the files that it names.
class Workspace {
 public:
  Workspace() {
    for (const char* name : {"model.pt", "data.h5"}) write_atomically(folder_ / name, "x");
    write_atomically(
        folder_ / "toy.json",
        R"({"name": "toy", "model": "model.pt", "data": "data.h5", "attack": {"epsilon": 0.5}})");
  }
  fs::path config(const std::string& text) const {
    write_atomically(folder_ / "config.json", text);
    return folder_ / "config.json";
  }
  fs::path standard() const {
    return config(R"({"subjects": ["toy.json"], "approaches": ["NONE", {"key": "AR"}], "runs": 5})");
  }
  fs::path operator/(const std::string& name) const { return folder_ / name; }

 private:
  testing::TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("good examples are read, and what was read reads the same again") {
  size_t count = 0;
  testing::TemporaryFolder folder;
  for (const auto& entry : fs::directory_iterator(kExamples / "good")) {
    INFO(entry.path());
    const Config config = read_config(entry.path(), test_catalog());
    json effective = config.effective();
    // written elsewhere, paths as seen from here are right when made absolute
    for (json& subject : effective["subjects"]) {
      for (const char* key : {"model", "data"})
        subject[key] = fs::absolute(subject[key].get<std::string>()).string();
      for (json& files : subject["published"]) {
        for (json& file : files) file = fs::absolute(file.get<std::string>()).string();
      }
      for (json& file : subject["history"]) file = fs::absolute(file.get<std::string>()).string();
    }
    write_atomically(folder / "again.json", effective.dump());
    CHECK(read_config(folder / "again.json", test_catalog()).effective() == effective);
    ++count;
  }
  CHECK(count >= 10);
}

TEST_CASE("bad examples are refused where the table says") {
  check_places("bad");
  check_places("reader_only");
}

TEST_CASE("the configs of the repository are right but for data that is not there") {
  ConfigOptions listing;
  listing.need_files = false;
  Catalog catalog = test_catalog();
  const Config mnist = read_config("configs/mnist.json", catalog, listing);
  CHECK(mnist.name == "mnist");
  REQUIRE(mnist.subjects.size() == 1);
  CHECK(mnist.subjects[0].name == "MNIST");
  CHECK(mnist.subjects[0].model == fs::path("data/mnist/lenet5.pt"));
  CHECK(mnist.subjects[0].published.size() == 2);
  CHECK(mnist.subjects[0].published[1].files.size() == 3);
  CHECK(mnist.subjects[0].attack->epsilon == 0.15);
  CHECK_FALSE(mnist.subjects[0].attack->relative_step);
  CHECK(mnist.subjects[0].attack->sample == 1000);
  CHECK(mnist.subjects[0].training->initialiser == "glorot_uniform");
  const Config demo = read_config("configs/demo.json", catalog, listing);
  CHECK(demo.approaches.size() == 3);  // all that imitate none
  CHECK(demo.runs == 3);
  CHECK_FALSE(demo.subjects[0].attack->sample);
}

TEST_CASE(
    "every number of a configuration is refused by its place, or stays within what can be computed with") {
  const json good = read_config(kExamples / "good/every_key.json", test_catalog()).effective();
  const std::vector<json> values = {1e39,    -1e39, 1e308, -1, 0, 0.5, 1e-320, "nan", uint64_t{1} << 63,
                                    nullptr, "inf", 1e30};
  const json flat = good.flatten();
  size_t numbers = 0, refused = 0;
  for (const auto& [pointer, value] : flat.items()) {
    if (!value.is_number()) continue;
    ++numbers;
    for (const json& wrong : values) {
      INFO(pointer << " = " << wrong.dump());
      json document = good;
      document[json::json_pointer(pointer)] = wrong;
      try {
        const Config config = read_config_value(document, "x.json", test_catalog());
        const json effective = config.effective().flatten();
        for (const auto& [place, read] : effective.items()) {
          if (read.is_number_float()) CHECK(std::abs(read.get<double>()) <= 1e30);
        }
      } catch (const UserError& error) {
        ++refused;
        for (const Problem& problem : error.problems()) {
          CHECK((pointer == problem.place || pointer.starts_with(problem.place + "/")));
          CHECK_FALSE(problem.found.empty());
          CHECK_FALSE(problem.expected.empty());
        }
      }
    }
  }
  CHECK(numbers >= 20);
  CHECK(refused > 5 * numbers);
}

TEST_CASE("configs/schema.json is what the tables of fields give") {
  INFO("build/harness list schema > configs/schema.json");
  const bool same = read_text("configs/schema.json") == config_schema();
  CHECK(same);
}

TEST_CASE("every default is the documented one") {
  const Config config = read_config(kExamples / "good/minimal.json", test_catalog());
  CHECK(config.name == "minimal");
  CHECK(config.runs == 3);
  CHECK(config.seed == 42);
  CHECK(config.corrupted_below == 0.5);
  CHECK(config.device == "auto");
  CHECK(config.keep == "all");
  CHECK(config.deterministic);
  CHECK_FALSE(config.tf32);
  CHECK_FALSE(config.batch);
  CHECK(config.resident_megabytes == 1024);
  CHECK_FALSE(config.budget);
  CHECK(config.checkpoint_seconds == 30);
  CHECK(config.subjects[0].model_name == "model");
  CHECK_FALSE(config.subjects[0].attack);
  CHECK_FALSE(config.subjects[0].groups);
  CHECK_FALSE(config.subjects[0].training);
}

TEST_CASE("every value arrives") {
  const Config config = read_config(kExamples / "good/every_key.json", test_catalog());
  CHECK(config.name == "every.key-1");
  CHECK(config.seed == std::numeric_limits<uint64_t>::max());
  CHECK(config.device == "cuda:0,12");
  CHECK(config.budget->seconds == 0.5);
  CHECK_FALSE(config.budget->megabytes);
  const SubjectConfig& subject = config.subjects.at(0);
  CHECK(subject.attack->epsilon_in_pixels);
  CHECK(subject.attack->relative_step == 0.25);
  CHECK_FALSE(subject.attack->sample);
  CHECK((*subject.attack->bounds)[0] == -1.5);
  CHECK(subject.attack->on_logits);
  CHECK_FALSE(subject.attack->margin);
  CHECK(subject.groups == std::vector<std::string>{"light", "dark"});
  CHECK(subject.published.at(1).key == "my-fix_2");
  CHECK(subject.published.at(1).files.size() == 2);
  CHECK(subject.training->momentum == 0.9);
  CHECK(subject.history.size() == 1);
  CHECK(subject.budget->seconds == 60);
  CHECK(config.subjects.at(1).name == "from_file");
  CHECK(config.subjects.at(1).model == kExamples / "files/model.pt");
  const ApproachConfig& variant = config.approaches.at(1);
  CHECK(variant.as == "AR_g1");
  CHECK(variant.hyperparameters.integer("generations") == 5);
  CHECK(variant.hyperparameters.boolean("stop_early"));
  CHECK(variant.hyperparameters.is_null("limit"));
  CHECK(variant.budget->seconds == 3600);
  CHECK_FALSE(variant.external);
  CHECK(config.approaches.at(3).shadow == "AP");
  CHECK(config.approaches.at(3).as == "CT_AP");
}

TEST_CASE("a control has its own parameters and those of what it imitates") {
  const Config config = read_config(kExamples / "good/every_key.json", test_catalog());
  const ApproachConfig& control = config.approaches.at(2);
  CHECK(control.key == "RAND");
  CHECK(control.shadow == "AR");
  CHECK(control.as == "RAND:AR");
  CHECK(control.hyperparameters.values().size() == 6);
  CHECK(control.hyperparameters.integer("weights") == 10);
  CHECK(control.hyperparameters.integer("generations") == 100);
  CHECK(control.hyperparameters.number("fraction") == 0.9);  // its own wins
}

TEST_CASE("external programs arrive, with the files of their commands") {
  const Config config = read_config(kExamples / "good/external_every_key.json", test_catalog());
  REQUIRE(config.approaches.size() == 3);
  const ApproachConfig& mine = config.approaches[1];
  const fs::path script = fs::absolute(kExamples / "files/fix.py");
  CHECK(mine.key == "MINE");
  CHECK(mine.as == "MINE_2");
  CHECK(mine.shadow.empty());
  CHECK(mine.name == "My own, second variant");
  CHECK(mine.level == Level::neuron);
  REQUIRE(mine.external);
  CHECK(mine.external->command ==
        std::vector<std::string>{"sh", script.string(), "--steps", "3", "--out=a/b", "model.pt.new"});
  CHECK(mine.external->files == std::vector<fs::path>{script});
  CHECK(mine.external->needs == std::vector<std::string>{"train"});
  CHECK(mine.external->uses == std::vector<std::string>{"validation", "repair"});
  CHECK(mine.hyperparameters.values() ==
        json::parse(R"({"steps": 3, "nested": {"list": [1, null, "x"]}, "comment": "goes to the program"})"));
  CHECK(mine.budget->megabytes == 500);
  const ApproachConfig& plain = config.approaches[2];
  CHECK(plain.as == "MINE");
  CHECK(plain.name == "MINE");
  CHECK(plain.level == Level::model);
  CHECK(plain.external->needs.empty());
  CHECK(plain.hyperparameters.values() == json::object());
}

TEST_CASE("a file of a command has an absolute path, wherever the configuration is read from") {
  const Workspace space;
  write_atomically(space / "tool", "x");
  write_atomically(space / "train", "x");
  fs::permissions(space / "tool", fs::perms::owner_all);
  const fs::path file = space.config(
      R"({"subjects": ["toy.json"], "approaches": [{"key": "MINE", "command": ["./tool", "train", "other"]}]})");
  const fs::path here = fs::current_path();
  fs::current_path(file.parent_path());
  const Config config = read_config(file.filename(), test_catalog());
  fs::current_path(here);
  const ExternalProgram& program = *config.approaches.at(0).external;
  CHECK(program.command == std::vector<std::string>{space / "tool", space / "train", "other"});
  CHECK(program.files.size() == 2);
  // read again elsewhere, a word is what it was, whatever lies there
  write_atomically(space / "other", "x");
  ConfigOptions again;
  again.from_effective = true;
  json effective = config.effective();
  effective["subjects"] = json::array({"toy.json"});
  const ExternalProgram same =
      *read_config(space.config(effective.dump()), test_catalog(), again).approaches.at(0).external;
  CHECK(same.command == program.command);
  CHECK(same.files == program.files);
}

TEST_CASE("a listing looks for no file of a command") {
  ConfigOptions listing;
  listing.need_files = false;
  for (const char* name : {"program_not_in_path", "program_missing", "script_missing"}) {
    const fs::path file = kExamples / "reader_only" / ("external_" + std::string(name) + ".json");
    CHECK(problems_of(file, listing).empty());
  }
}

TEST_CASE("all and study choose from what is there") {
  const auto keys = [](const char* example) {
    std::vector<std::string> result;
    for (const auto& approach : read_config(kExamples / "good" / example, test_catalog()).approaches) {
      result.push_back(approach.as);
    }
    return result;
  };
  CHECK(keys("all_approaches.json") == std::vector<std::string>{"AP", "AR", "NONE"});
  CHECK(keys("study_approaches.json") == std::vector<std::string>{"AP", "AR"});
  CHECK_THROWS_AS(read_config(kExamples / "good/study_approaches.json", {}), UserError);
}

TEST_CASE("what is wrong comes with what was probably meant") {
  CHECK(suggestion_of("bad/unknown_key") == "seed");
  CHECK(suggestion_of("bad/keep_unknown").empty());
  CHECK(suggestion_of("bad/epsilon_unit_unknown") == "pixel");
  CHECK(suggestion_of("bad/subject_unknown_key") == "model_name");
  CHECK(suggestion_of("reader_only/unknown_approach") == "AR");
  CHECK(suggestion_of("reader_only/unknown_approach_in_object") == "NONE");
  CHECK(suggestion_of("reader_only/unknown_parameter") == "generations");
  CHECK(suggestion_of("reader_only/parameter_not_a_choice").empty());
  CHECK(suggestion_of("reader_only/missing_model") == "model.pt");
  CHECK(suggestion_of("reader_only/missing_subject_file") == "subject.json");
  CHECK(suggestion_of("reader_only/external_program_missing") == "fix.py");
  CHECK(suggestion_of("reader_only/external_script_missing").empty());
  CHECK(suggestion_of("bad/external_needs_unknown") == "train");
  CHECK(suggestion_of("bad/external_unknown_member") == "needs");
  CHECK(suggestion_of("reader_only/missing_data_of_mnist")
            .starts_with("scripts/prepare mnist --source DIR --out "));
  CHECK(suggestion_of("reader_only/missing_model_of_mnist")
            .starts_with("scripts/train mnist, or scripts/export lenet5 --weights FILE --out "));
  CHECK(suggestion_of("reader_only/missing_model_of_digits") == "scripts/demo");
  CHECK(problems_of("tests/core/examples/good/minimul.json")[0].suggestion == "minimal.json");
}

TEST_CASE("problems of all files come at once, each with its file") {
  const Workspace space;
  write_atomically(space / "bad.json", R"({"name": "x", "model": "nope.pt", "data": "data.h5", "attak": 1})");
  write_atomically(space / "broken.json", "{\n  \"name\": \n}");
  const auto problems = problems_of(space.config(
      R"({"subjects": ["bad.json", "broken.json", "gone.json", "toy.json"], "approaches": ["AR"], "runs": 0})"));
  std::set<std::pair<std::string, std::string>> seen;
  for (const Problem& problem : problems) seen.emplace(fs::path(problem.file).filename(), problem.place);
  CHECK(seen == std::set<std::pair<std::string, std::string>>{{"bad.json", "/model"},
                                                              {"bad.json", "/attak"},
                                                              {"broken.json", "line 3, column 1"},
                                                              {"config.json", "/subjects/2"},
                                                              {"config.json", "/runs"}});
}

TEST_CASE("broken JSON names line and column") {
  const Workspace space;
  const auto problems = problems_of(space.config("{\n \"runs\": 3,\n \"seed\" 4\n}"));
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].place == "line 3, column 9");
  CHECK(problems_of(space / "missing.json")[0].found.find("no file") == 0);
}

TEST_CASE("--set puts values into the config and into subject files") {
  const Workspace space;
  ConfigOptions options;
  options.set = {{"/runs", "7"},
                 {"/device", "cpu"},
                 {"/subjects/0/attack/epsilon", "0.25"},
                 {"/subjects/0/name", "other"},
                 {"/subjects/0/attack/bounds", "[0,1]"},
                 {"/approaches/1/parameters", R"({"generations": 4})"},
                 {"/approaches/0", "AP"}};
  const Config config = read_config(space.standard(), test_catalog(), options);
  CHECK(config.runs == 7);
  CHECK(config.device == "cpu");
  CHECK(config.subjects[0].attack->epsilon == 0.25);
  CHECK((*config.subjects[0].attack->bounds)[1] == 1);
  CHECK(config.subjects[0].name == "other");
  CHECK(config.approaches[0].key == "AP");
  CHECK(config.approaches[1].hyperparameters.integer("generations") == 4);
  CHECK(config.effective()["subjects"][0]["attack"]["epsilon"] == 0.25);
}

TEST_CASE("--set in the wrong place or with a wrong value blames the command line") {
  const Workspace space;
  const auto blamed = [&](const std::string& pointer, const std::string& value) {
    ConfigOptions options;
    options.set = {{pointer, value}};
    const auto problems = problems_of(space.standard(), options);
    REQUIRE(problems.size() == 1);
    CHECK(problems[0].file == "command line");
    return problems[0].place;
  };
  CHECK(blamed("/runs", "-1") == "--set /runs");
  CHECK(blamed("/rusn", "1") == "--set /rusn");
  CHECK(blamed("/subjects/0/attack/epsilon", "big") == "--set /subjects/0/attack/epsilon");
  CHECK(blamed("/subjects/0/attack", R"({"epsilon": 1, "step": 2})") == "--set /subjects/0/attack/step");
  CHECK(blamed("/subjects/0/atack/epsilon", "1") == "--set /subjects/0/atack/epsilon");
  CHECK(blamed("/subjects/1/name", "x") == "--set /subjects/1/name");
  CHECK(blamed("/subjects/-/name", "x") == "--set /subjects/-/name");
  CHECK(blamed("/subjects/00/name", "x") == "--set /subjects/00/name");
  CHECK(blamed("/subjects/0", "gone.json") == "--set /subjects/0");
  CHECK(blamed("/approaches/2", "AP") == "--set /approaches/2");
  CHECK(blamed("/approaches/0/parameters", "{}") == "--set /approaches/0/parameters");
  CHECK(blamed("runs", "1") == "--set runs");
  CHECK(blamed("", "{}") == "--set ");
  CHECK(blamed("/a~2", "1") == "--set /a~2");
  CHECK(blamed("/budget", R"({"seconds": 1, "seconds": 2})") == "--set /budget/seconds");
  ConfigOptions options;
  options.set = {{"/subjects/0/atack/epsilon", "1"}};
  CHECK(problems_of(space.standard(), options)[0].suggestion == "attack");
}

TEST_CASE("a name of one's own for the results") {
  const Workspace space;
  write_atomically(space / "my config.v2.json", read_text(space.standard()));
  CHECK(read_config(space / "my config.v2.json", test_catalog()).name == "my_config.v2");
  write_atomically(space / ".json", read_text(space.standard()));
  CHECK(read_config(space / ".json", test_catalog()).name == "_json");
  CHECK(is_name("a.b-c_1", true));
  CHECK_FALSE(is_name("a.b", false));
  CHECK_FALSE(is_name("..", true));
  CHECK_FALSE(is_name("-a", true));
  CHECK_FALSE(is_name(std::string(101, 'a'), true));
}

TEST_CASE("a control that is an approach on its own, too, is written either way") {
  const Workspace space;
  Catalog catalog = test_catalog();
  for (ApproachInfo& info : catalog) {
    if (info.key != "CT") continue;
    info.alone = true;
    info.shadow_of.clear();
    info.imitates = {"AP"};
  }
  const auto keys = [&](const std::string& approaches) {
    std::string text;
    const Config config =
        read_config(space.config(R"({"subjects": ["toy.json"], "approaches": )" + approaches + "}"), catalog);
    for (const ApproachConfig& approach : config.approaches) text += approach.as + " ";
    return text;
  };
  CHECK(keys(R"(["CT", "CT:AP"])") == "CT CT:AP ");
  CHECK(keys(R"(["CT:AR"])") == "CT:AR ");  // the run says that it is UNADAPTABLE
  CHECK(keys("\"all\"") == "AP AR CT NONE ");
  CHECK(keys("\"study\"") == "AP AR ");
  try {
    keys(R"(["CT:NOPE"])");
    FAIL("read");
  } catch (const UserError& error) {
    CHECK(error.problems()[0].expected == "CT:KEY with KEY one of AP");  // what it works for
  }
}

TEST_CASE("without approaches there have to be published models") {
  const Workspace space;
  const std::string empty = R"({"subjects": ["toy.json"], "approaches": []})";
  CHECK(places_of(problems_of(space.config(empty))) == std::vector<std::string>{"/approaches"});
  ConfigOptions published;
  published.set = {{"/subjects/0/published", R"({"AP": ["model.pt"]})"}};
  const Config config = read_config(space.config(empty), test_catalog(), published);
  CHECK(config.approaches.empty());
  CHECK(config.effective()["approaches"] == json::array());
  // where a subject cannot be read, that alone is said
  CHECK(places_of(problems_of(space.config(R"({"subjects": ["gone.json"], "approaches": []})"))) ==
        std::vector<std::string>{"/subjects/0"});
}

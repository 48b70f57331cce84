#include <algorithm>
#include <map>

#include "harness/core/files.hpp"
#include "harness/report/tables.hpp"
#include "tests/report/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
namespace fs = std::filesystem;

namespace {

const report::ApproachReport& row_of(const report::Report& report, const std::string& approach) {
  const auto found =
      std::find_if(report.rows.begin(), report.rows.end(),
                   [&](const report::ApproachReport& row) { return row.cell.approach == approach; });
  REQUIRE(found != report.rows.end());
  return *found;
}

std::string entry(const report::Table& table, size_t row, const std::string& column) {
  const auto found = std::find(table.columns.begin(), table.columns.end(), column);
  REQUIRE(found != table.columns.end());
  return table.rows.at(row).at(static_cast<size_t>(found - table.columns.begin()));
}

// The rows whose `column` holds `value`.
std::vector<size_t> rows_with(const report::Table& table, const std::string& column,
                              const std::string& value) {
  std::vector<size_t> rows;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    if (entry(table, i, column) == value) rows.push_back(i);
  }
  return rows;
}

size_t row_with(const report::Table& table, const std::string& approach, const std::string& metric) {
  for (const size_t row : rows_with(table, "approach", approach)) {
    if (entry(table, row, "metric") == metric) return row;
  }
  FAIL(table.name << " has no row " << approach << " " << metric);
  return 0;
}

const std::string kLong =
    "subject,model,approach,name,level,metric,unit,better,mean,std,min,max,runs,status,reason";

}  // namespace

TEST_CASE("rows come by level and name; means are over the ok runs") {
  Results results;
  results.ok("NONE", 1, {{0, 1}, {0, 1}, {}, {}}, 0.25, Level::control);
  results.ok("published:AP", 1, {{0, 1}, {1}, {}, {}}, 0, Level::published);
  results.ok("B", 1, {{0, 1}, {}, {}, {}}, 1);
  results.ok("B", 2, {{0, 1}, {1, 2}, {}, {}}, 4);
  results.other("B", 3, Status::corrupted, "accuracy: too low");
  results.other("A", 1, Status::unadaptable, "missing_split: train");
  results.plan("C", 1);
  const report::Report report = results.report();

  const report::Table rq1 = report::applicability_table(report);
  CHECK(report::to_csv(rq1) ==
        "subject,model,approach,name,level,status,reason,runs,ok_runs\n"
        "S,net,A,Name of A,neuron,UNADAPTABLE,missing_split: train,1,0\n"
        "S,net,B,Name of B,neuron,ok,1 of 3 CORRUPTED (accuracy: too low),3,2\n"
        "S,net,C,Name of C,neuron,missing,1 of 1 missing,0,0\n"
        "S,net,published:AP,Name of published:AP,published,ok,,1,1\n"
        "S,net,NONE,Name of NONE,control,ok,,1,1\n");
  CHECK(report.coverage() == "6 of 7 cells have a record, 1 missing");

  const report::Table rq2 = report::metric_table(report, "rq2");
  CHECK(report::to_csv(rq2).substr(0, kLong.size() + 1) == kLong + "\n");
  const size_t acc = row_with(rq2, "B", "ACC");
  CHECK(entry(rq2, acc, "mean") == "90");  // 100 and 80
  CHECK(entry(rq2, acc, "std") == format_number(std::sqrt(200.0)));
  CHECK(entry(rq2, acc, "min") == "80");
  CHECK(entry(rq2, acc, "max") == "100");
  CHECK(entry(rq2, acc, "runs") == "2");
  CHECK(entry(rq2, acc, "better") == "higher");
  CHECK(entry(rq2, row_with(rq2, "B", "RR"), "mean") == "75");
  CHECK(entry(rq2, row_with(rq2, "published:AP", "RR"), "mean") == "50");
  CHECK(entry(rq2, row_with(rq2, "published:AP", "RR"), "std").empty());  // one run
  const size_t absent = row_with(rq2, "A", "RR");
  CHECK(entry(rq2, absent, "mean").empty());
  CHECK(entry(rq2, absent, "status") == "UNADAPTABLE");
  CHECK(entry(rq2, absent, "reason") == "missing_split: train");
  const report::Table rq3 = report::metric_table(report, "rq3");
  CHECK(entry(rq3, row_with(rq3, "B", "NFR"), "mean") == "5");
  CHECK(entry(rq3, row_with(rq3, "B", "ASR"), "mean").empty());
  CHECK(entry(rq3, row_with(rq3, "B", "ASR"), "reason").rfind("no_attack: none is configured; 1 of 3", 0) ==
        0);
}

TEST_CASE("a note of some runs only says of how many") {
  Results results;
  for (int64_t run = 1; run <= 3; ++run) {
    results.ok("A", run, {{0}, {0}, {}, {}}, 1).reason = run == 2 ? "note: as it was" : "";
    results.ok("B", run, {{0}, {0}, {}, {}}, 1).reason = "note: on purpose";
  }
  const report::Report report = results.report();
  CHECK(row_of(report, "A").reason == "1 of 3 note: as it was");
  CHECK(row_of(report, "B").reason == "note: on purpose");
}

TEST_CASE("rows with a fix that a budget ended are marked in every table, others are not") {
  Results results;
  for (int64_t run = 1; run <= 3; ++run) {
    results.ok("A", run, {{0, 1}, {0}, {}, {}}, 60).provenance["cut_short"] = "60 s";
    results.ok("B", run, {{0, 1}, {0}, {}, {}}, 1).provenance["cut_short"] = run < 3 ? "60 s" : "";
    results.ok("C", run, {{0, 1}, {0}, {}, {}}, 1).provenance["cut_short"] = "";
  }
  results.other("D", 1, Status::failure, "timeout: 60 s").provenance["cut_short"] = "60 s";
  Record& both = results.ok("E", 1, {{0, 1}, {0}, {}, {}}, 1);
  both.provenance["cut_short"] = "20 MB of memory";
  both.reason = "note: as it was";
  both.limited = true;
  both.invariants = {{"untouched", false, "w"}};
  const report::Report report = results.report();
  const std::map<std::string, std::string> reasons = {
      {"A", "cut_short: 60 s"},
      {"B", "cut_short: 60 s (2 of 3 runs)"},
      {"C", ""},
      {"D", "timeout: 60 s"},
      {"E",
       "note: as it was; mistrusted: untouched (run 1); cut_short: 20 MB of memory; LIMITED: part of the "
       "data"}};
  const report::Table rq1 = report::applicability_table(report), rq2 = report::metric_table(report, "rq2"),
                      rq4 = report::time_table(report), wide = report::wide_table(report, "rq2"),
                      runs = report::runs_table(report), summary = report::summary_table(report);
  for (const auto& [approach, reason] : reasons) {
    INFO(approach);
    CHECK(row_of(report, approach).cut_short == (approach != "C" && approach != "D"));
    for (const report::Table* table : {&rq1, &summary}) {
      CHECK(entry(*table, rows_with(*table, "approach", approach).front(), "reason") == reason);
    }
    CHECK(entry(rq2, row_with(rq2, approach, "ACC"), "reason") == reason);
    CHECK(entry(rq4, row_with(rq4, approach, "TIME"), "reason") == reason);
    const size_t row = rows_with(wide, "approach", approach).front();
    CHECK(entry(wide, row, "notes") == (reason.empty() ? "" : "S: " + reason));
    CHECK(entry(wide, row, "S ACC") == (approach == "D" ? "FAILURE" : "90"));  // numbers stay numbers
  }
  std::vector<std::string> single;
  for (const size_t row : rows_with(runs, "metric", "ACC")) single.push_back(entry(runs, row, "reason"));
  CHECK(single == std::vector<std::string>{
                      "cut_short: 60 s", "cut_short: 60 s", "cut_short: 60 s", "cut_short: 60 s",
                      "cut_short: 60 s", "", "", "", "", "timeout: 60 s",
                      "note: as it was; mistrusted: untouched; cut_short: 20 MB of memory; LIMITED"});
}

TEST_CASE("tables for people mark the values of such rows themselves, and say what the mark means") {
  Results results;
  results.ok("A", 1, {{0, 1}, {0}, {}, {}}, 60).provenance["cut_short"] = "60 s";
  results.ok("A", 2, {{0, 1}, {0}, {}, {}}, 60).device = "CPU two";
  results.ok("C", 1, {{0, 1}, {0}, {}, {}}, 1);
  const std::string text = report::tables_text(results.report());
  CHECK(text.find("ok 2/2† [1]") != std::string::npos);
  CHECK(text.find("90.00 ±0.00†") != std::string::npos);
  CHECK(text.find(" 60.0† ") != std::string::npos);   // on CPU one
  CHECK(text.find(" 60.0  ") != std::string::npos);   // on CPU two
  CHECK(text.find(" 0.500† ") == std::string::npos);  // TIME_predict
  CHECK(text.find("[1] cut_short: 60 s (1 of 2 runs)") != std::string::npos);
  CHECK(text.find("\n† cut short: ") != std::string::npos);
  CHECK(text.find("ok 1/1†") == std::string::npos);
  Results without;
  without.ok("C", 1, {{0, 1}, {0}, {}, {}}, 1);
  CHECK(report::tables_text(without.report()).find("†") == std::string::npos);
}

TEST_CASE("attack rates of several runs are over the images attacked in all of them") {
  Results results;
  results.ok("B", 1, {{}, {}, {0, 1, 2, 3}, {0, 1}}, 1);  // alone 50 %
  results.ok("B", 2, {{}, {}, {2, 3, 4, 5}, {2}}, 1);     // alone 25 %
  results.ok("C", 1, {{}, {}, {0, 1, 2, 3}, {0, 1}}, 1);
  const report::Report report = results.report();
  const report::Value* joint = row_of(report, "B").find("ASR");
  REQUIRE(joint != nullptr);
  CHECK(joint->runs == std::vector<double>{0, 50});  // on images 2 and 3
  CHECK(row_of(report, "B").find("ATTACKED")->runs == std::vector<double>{2, 2});
  CHECK(row_of(report, "C").find("ASR")->runs == std::vector<double>{50});
  // every single run keeps its own value
  const report::Table runs = report::runs_table(report);
  std::vector<std::string> single;
  for (const size_t row : rows_with(runs, "metric", "ASR")) single.push_back(entry(runs, row, "value"));
  CHECK(single == std::vector<std::string>{"50", "25", "50"});
}

TEST_CASE("rows with many zero gradients are marked wherever attack rates stand") {
  Results results;
  results.ok("B", 1, {{}, {}, {0, 1, 2, 3}, {0}}, 1);
  results.ok("C", 1, {{}, {}, {0, 1, 2, 3}, {0, 1, 2, 3}}, 1);
  const report::Report report = results.report();
  REQUIRE(row_of(report, "B").marks.size() == 1);
  const std::string mark = row_of(report, "B").marks.front();
  CHECK(mark.rfind("ZERO_GRADIENT above ", 0) == 0);
  CHECK(row_of(report, "C").marks.empty());
  const report::Table rq3 = report::metric_table(report, "rq3");
  CHECK(entry(rq3, row_with(rq3, "B", "ASR"), "reason") == mark);
  CHECK(entry(rq3, row_with(rq3, "B", "NFR"), "reason").empty());
  CHECK(entry(report::wide_table(report, "rq3"), 0, "notes") == "S: " + mark);
  CHECK(report::tables_text(report).find(mark) != std::string::npos);
}

TEST_CASE("times of different devices are never averaged") {
  Results results;
  results.ok("B", 1, {{}, {}, {}, {}}, 2);
  results.ok("B", 2, {{}, {}, {}, {}}, 4);
  results.ok("B", 3, {{}, {}, {}, {}}, 10).device = "CPU two";
  results.ok("P", 1, {{}, {}, {}, {}}, 0, Level::published);
  const report::Report report = results.report();
  const report::Table rq4 = report::time_table(report);
  CHECK(report::to_csv(rq4).substr(0, rq4.columns.size()).rfind("subject,model", 0) == 0);
  std::map<std::string, std::string> means;
  for (const size_t row : rows_with(rq4, "metric", "TIME")) {
    means[entry(rq4, row, "approach") + " " + entry(rq4, row, "device")] = entry(rq4, row, "mean");
  }
  CHECK(means ==
        std::map<std::string, std::string>{{"B CPU one", "3"}, {"B CPU two", "10"}, {"P CPU one", ""}});
  CHECK(rows_with(rq4, "metric", "TIME_predict").size() == 3);
  const report::Table wide = report::wide_table(report, "rq4");
  CHECK(entry(wide, 0, "S TIME [CPU one]") == "3");
  CHECK(entry(wide, 0, "S TIME [CPU two]") == "10");
  const report::Table summary = report::summary_table(report);
  CHECK(entry(summary, 0, "TIME").empty());
  CHECK(entry(summary, 0, "reason") == "TIME: several devices, no mean");
}

TEST_CASE("times with other numbers of threads are never averaged") {
  Results results;
  results.ok("B", 1, {{}, {}, {}, {}}, 2).threads = 2;
  results.ok("B", 2, {{}, {}, {}, {}}, 4).threads = 2;
  results.ok("B", 3, {{}, {}, {}, {}}, 10).threads = 64;
  results.ok("C", 1, {{}, {}, {}, {}}, 7).threads = 1;
  const report::Report report = results.report();
  const report::Table rq4 = report::time_table(report);
  std::map<std::string, std::string> means;
  for (const size_t row : rows_with(rq4, "metric", "TIME")) {
    means[entry(rq4, row, "approach") + " " + entry(rq4, row, "device") + " " + entry(rq4, row, "threads")] =
        entry(rq4, row, "mean");
  }
  CHECK(means == std::map<std::string, std::string>{
                     {"B CPU one 2", "3"}, {"B CPU one 64", "10"}, {"C CPU one 1", "7"}});
  const report::Table wide = report::wide_table(report, "rq4");
  CHECK(entry(wide, 0, "S TIME [CPU one, 2 threads]") == "3");
  CHECK(entry(wide, 0, "S TIME [CPU one, 64 threads]") == "10");
  CHECK(entry(wide, 1, "S TIME [CPU one, 1 thread]") == "7");
  const report::Table summary = report::summary_table(report);
  CHECK(entry(summary, 0, "TIME").empty());
  CHECK(entry(summary, 0, "reason") == "TIME: several numbers of threads or workers, no mean");
  CHECK(report::tables_text(report).find("device: CPU one, 64 threads") != std::string::npos);
}

TEST_CASE(
    "an approach is Pareto-optimal unless another is at least as good in everything and better in one") {
  Results results;
  results.ok("A", 1, {{0, 1}, {}, {}, {}}, 5);        // best repair, slow
  results.ok("B", 1, {{0, 1}, {1}, {}, {}}, 1);       // half the repair, quick
  results.ok("C", 1, {{0, 1}, {1}, {}, {}}, 2);       // as B, slower: beaten
  results.ok("D", 1, {{0, 1}, {0, 2}, {}, {}}, 0.5);  // quickest
  results.other("E", 1, Status::failure, "no_fix: none");
  // Better than all of them in everything, and one with NFR 0 and no time; neither counts.
  results.ok("NONE", 1, {{0, 1}, {0, 1}, {}, {}}, 0, Level::control);
  results.ok("RAND:A", 1, {{0, 1}, {}, {}, {}}, 0.25, Level::control);
  const report::Table summary = report::summary_table(results.report());
  std::string optimal;
  for (size_t row = 0; row < summary.rows.size(); ++row) {
    optimal += entry(summary, row, "approach") + "=" + entry(summary, row, "pareto_optimal") + " ";
  }
  CHECK(optimal == "A=yes B=yes C=no D=yes E= NONE= RAND:A= ");
}

TEST_CASE("what an approach rests on stands in the legend and at the end of the summary, from the catalog") {
  Results results;
  results.ok("A", 1, {{0, 1}, {}, {}, {}}, 5);
  results.planned().back().basis = Basis::reference_code;
  results.ok("NONE", 1, {{0, 1}, {0, 1}, {}, {}}, 0, Level::control);
  const report::Report report = results.report();
  const report::Table summary = report::summary_table(report);
  CHECK(summary.columns.back() == "basis");
  CHECK(summary.rows.at(0).back() == "reference code");
  CHECK(summary.rows.at(1).back().empty());
  CHECK(report::tables_text(report).find("Name of A     neuron   reference code\n") != std::string::npos);
  // No record holds it, so that those made before there was such a thing have it as well.
  CHECK(read_text(results.tree().record({"S", "net", "A", 1})).find("basis") == std::string::npos);
}

TEST_CASE("a random search that made other numbers of evaluations than the localised one says so") {
  const auto reason = [](int64_t own, int64_t its, const std::string& cut_short,
                         const nlohmann::json& settings) {
    Results results;
    for (const int64_t run : {1, 2}) {
      for (const bool control : {false, true}) {
        Record& record = results.ok(control ? "RAND:A" : "A", run, {{0, 1}, {1}, {}, {}}, 1,
                                    control ? Level::control : Level::neuron);
        record.counters["evaluations"] = (control ? own : its) + run;
        if (control && run == 1 && !cut_short.empty()) record.provenance["cut_short"] = cut_short;
        Identity& identity = results.planned().back().identity;
        identity.approach = {control ? "RAND" : "A", control ? "A" : "", {{"rate", 1}}};
        if (!control) identity.approach.parameters = settings;
        record.provenance["identity"] = identity;
        results.planned().back().seal();
        record.digest = results.planned().back().digest;
      }
    }
    const report::Report report = results.report();
    CHECK(row_of(report, "A").reason.empty());
    return row_of(report, "RAND:A").reason;
  };
  const nlohmann::json same = {{"rate", 1}};
  CHECK(reason(40, 40, "", same).empty());
  CHECK(reason(40, 80, "", same) == "evaluations: 42 against 82 of A, so not compared at equal evaluations");
  CHECK(reason(40, 80, "60 s", same) ==
        "cut_short: 60 s (1 of 2 runs); evaluations: 42 against 82 of A, so not compared at equal "
        "evaluations; a budget ended 1 run of RAND:A");
  CHECK(reason(40, 80, "", {{"rate", 2}}).empty());  // another search
}

TEST_CASE("records of another configuration count as outdated, of another version as stale, both are said") {
  Results results;
  results.ok("A", 1, {{0}, {}, {}, {}}, 1);
  results.ok("B", 1, {{0}, {}, {}, {}}, 1);
  results.ok("C", 1, {{0}, {}, {}, {}}, 1).limited = true;
  results.ok("D", 1, {{0}, {}, {}, {}}, 1).invariants = {{"untouched", false, "w"}, {"finite", true, ""}};
  results.planned()[0].identity.approach.parameters = 7;
  results.planned()[1].identity.version = "2";
  results.planned()[2].identity.device = "cuda";  // shown beside the value, no other result
  const report::Report report = results.report();
  CHECK(row_of(report, "A").status == "missing");
  CHECK(row_of(report, "A").reason == "1 of 1 outdated: the configuration changed");
  CHECK(row_of(report, "B").status == "ok");
  CHECK(row_of(report, "B").reason == "1 of 1 stale: made by another version of the approach");
  CHECK(row_of(report, "C").reason == "LIMITED: part of the data");
  CHECK(row_of(report, "D").reason == "mistrusted: untouched (run 1)");
  CHECK(report.coverage() ==
        "3 of 4 cells have a record, 1 outdated (the configuration changed since), 1 stale (made by another "
        "version of the approach), 1 mistrusted (a check failed); LIMITED: made from part of the data");
  CHECK(report::tables_text(report).rfind("LIMITED: these tables come from part of the data", 0) == 0);
}

TEST_CASE("what was made from part of the data is no result of all of it, and the other way round") {
  Results results;
  results.ok("A", 1, {{0}, {}, {}, {}}, 1);
  results.ok("A", 2, {{0}, {}, {}, {}}, 1);
  results.ok("B", 1, {{0}, {}, {}, {}}, 1);
  Record& other_form = results.ok("C", 1, {{0}, {}, {}, {}}, 1);
  other_form.provenance["identity"]["limit"] = nullptr;  // all of it, as if an empty limit stood there
  other_form.digest = "of that form";
  results.planned()[1].identity.limit = {{"test", 20}};
  results.planned()[2].identity.limit = {{"test", 20}};
  const report::Report report = results.report();
  CHECK(row_of(report, "A").reason == "1 of 2 outdated: made with another --limit");
  CHECK(row_of(report, "A").ok_runs == 1);
  CHECK(row_of(report, "B").status == "missing");
  CHECK(report.outdated - report.other_limit == 1);  // C: its identity has another form
  CHECK(report.coverage() ==
        "1 of 4 cells have a record, 1 outdated (the configuration changed since), 2 outdated (made with "
        "another --limit, or without)");
}

TEST_CASE("tables are a pure function of the records") {
  Results results;
  results.ok("A", 1, {{0, 1}, {1}, {2, 3}, {3}}, 1.0 / 3);
  results.other("B", 1, Status::failure, "crashed: \"so\", it said");
  const report::Report report = results.report();
  report::write_tables(results.tree(), report);
  std::map<std::string, std::string> first;
  for (const auto& file : fs::directory_iterator(results.tree().tables())) {
    first[file.path().filename().string()] = read_text(file.path());
  }
  std::string names;
  for (const auto& [name, text] : first) names += name + " ";
  CHECK(names ==
        "rq1.csv rq1_wide.csv rq2.csv rq2_wide.csv rq3.csv rq3_wide.csv rq4.csv rq4_wide.csv runs.csv "
        "sources.json summary.csv ");
  CHECK(first["rq1.csv"].find("\"crashed: \"\"so\"\", it said\"") != std::string::npos);
  CHECK(first["runs.csv"].find("," + format_number(1.0 / 3) + ",") != std::string::npos);
  report::write_tables(results.tree(), report::make_report(results.tree(), results.planned()));
  for (const auto& [name, text] : first) CHECK(read_text(results.tree().tables() / name) == text);
}

TEST_CASE("damaged files of a results tree are named with place and what was expected") {
  Results results;
  results.ok("A", 1, {{}, {}, {0, 1}, {0}}, 1);
  results.ok("A", 2, {{}, {}, {0, 1}, {0}}, 1);
  results.report();
  const fs::path folder = results.tree().cell({"S", "net", "A", 2});
  const auto problem = [&] {
    try {
      report::make_report(results.tree(), results.planned());
    } catch (const ResultsError& error) {
      return error.problems().front();
    }
    FAIL("nothing was thrown");
    return Problem{};
  };
  write_atomically(folder / "attack.csv",
                   "image,original,fixed,zero_gradient_original,zero_gradient\n0,1,x,0,0\n");
  CHECK(problem().file == (folder / "attack.csv").string());
  CHECK(problem().place == "line 2");
  CHECK(problem().found == "\"0,1,x,0,0\"");
  CHECK(problem().expected == "5 whole numbers");
  fs::remove(folder / "attack.csv");
  CHECK(problem().file == (folder / "attack.csv").string());
  const std::string record = read_text(folder / "record.json");
  write_atomically(folder / "record.json", record.substr(0, record.size() / 2));
  CHECK(problem().file == (folder / "record.json").string());
  fs::copy_file(results.tree().record({"S", "net", "A", 1}), folder / "record.json",
                fs::copy_options::overwrite_existing);
  CHECK(problem().place == "/cell");
  CHECK(problem().found == "S/A/1");
  CHECK(problem().expected == "S/A/2");
}

#include "harness/cell/checkpoint.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/metrics/outcomes.hpp"
#include "harness/plan/redo.hpp"
#include "harness/store/sealed.hpp"
#include "tests/run/job.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

plan::Selection redoing(const std::string& glob, std::optional<std::string> only = {}) {
  return {.only = std::move(only), .redo = glob, .retry = {}, .shard = {}};
}

std::string token_of(const Job& job, const std::string& approach) {
  return plan::redo_of(job.record(approach));
}

const CellId kCell{"S", "small", "NONE", 1};

}  // namespace

TEST_CASE("a redo goes on after an interruption and begins anew once it is through") {
  Job job(json{{"approaches", {"NONE", {{"key", "NONE"}, {"as", "SAME"}}}}});
  job.run();
  CHECK(token_of(job, "NONE").empty());
  const plan::Selection redo = redoing("*");
  CHECK(job.todo(redo).size() == 2);
  // begun, and ended after its first cell
  std::optional<plan::Redo> begun = plan::find_redo(job.tree(), redo);
  REQUIRE(begun);
  CHECK_FALSE(begun->begun);
  plan::begin(&*begun);
  CHECK(plan::find_redo(job.tree(), redo)->token == begun->token);
  CHECK(plan::find_redo(job.tree(), redoing("*", "S/*"))->token != begun->token);  // another command
  Record first = job.record("NONE");
  first.provenance["redo"] = begun->token;
  write_sealed(job.tree().record(kCell), first.to_json());
  CHECK(job.todo(redo) == std::vector<std::string>{"S/SAME/1"});
  CHECK(job.todo().empty());
  // what is not finished any more is to be done all the same
  job.version = 2;
  CHECK(job.todo(redo).size() == 2);
  job.version = 1;
  CHECK(job.run(redo).done == 1);
  CHECK(token_of(job, "SAME") == begun->token);
  CHECK_FALSE(fs::exists(begun->file));
  // and the same command once more
  CHECK(job.run(redo).done == 2);
  CHECK(token_of(job, "SAME") != begun->token);
  CHECK(token_of(job, "SAME") == token_of(job, "NONE"));
  CHECK_FALSE(fs::exists(job.tree().root() / "redo"));
}

TEST_CASE("a redo uses nothing that was there before it began, and all that it left itself") {
  Job job(json{{"approaches", {"NONE"}}});
  job.run();
  const plan::Selection redo = redoing("*");
  const fs::path folder = job.tree().cell(kCell), log = folder / "log.txt";
  const auto last_log = [&] {
    const std::string text = read_text(log);
    return text.substr(text.rfind("begins;"));
  };
  // killed between the record and the rest, before anything new was written: the old fix is no part of it
  std::optional<plan::Redo> begun = plan::find_redo(job.tree(), redo);
  plan::begin(&*begun);
  fs::remove(job.tree().record(kCell));
  CHECK(job.run(redo).done == 1);
  CHECK(last_log().find(" fix") != std::string::npos);
  // killed after its fix: that one is kept
  begun = plan::find_redo(job.tree(), redo);
  begun->token = token_of(job, "NONE");
  plan::begin(&*begun);
  fs::remove(job.tree().record(kCell));
  CHECK(job.run(redo).done == 1);
  CHECK(last_log().find(" fix") == std::string::npos);
  CHECK(token_of(job, "NONE") == begun->token);
}

TEST_CASE("two that begin the same redo have one token") {
  TemporaryFolder folder;
  const ResultsTree tree(folder.path());
  auto first = plan::find_redo(tree, redoing("*")), second = plan::find_redo(tree, redoing("*"));
  CHECK(first->token != second->token);
  plan::begin(&*first);
  plan::begin(&*second);
  CHECK(first->token == second->token);
  write_atomically(first->file, "{\"tok");  // cut short: as if there were none
  auto third = plan::find_redo(tree, redoing("*"));
  CHECK_FALSE(third->begun);
  plan::begin(&*third);
  CHECK(plan::find_redo(tree, redoing("*"))->token == third->token);
  CHECK_FALSE(plan::find_redo(tree, {}));
}

TEST_CASE("a checkpoint says which redo it belongs to") {
  TemporaryFolder folder;
  const fs::path file = folder / "checkpoint.bin";
  cell::write_checkpoint(file, "fix", {{{"a", at::arange(3)}}, {.seconds = 2}, "token"});
  const auto found = cell::read_checkpoint(file, "fix");
  REQUIRE(found);
  CHECK(found->redo == "token");
  CHECK(found->spent.seconds == 2);
  CHECK(at::equal(found->state.at("a"), at::arange(3)));
  CHECK_FALSE(cell::read_checkpoint(file, "another"));
}

TEST_CASE("an original's file that was changed by anybody is made again") {
  Job job(json{{"approaches", {"NONE"}}});
  job.run();
  const fs::path file = job.tree().subject("S") / "original.json";
  const std::string good = read_text(file);
  RandomStream stream(4);
  for (int k = 0; k < 4; ++k) {
    std::string bad = good;
    size_t at = 0;
    do at = static_cast<size_t>(stream.below(static_cast<int64_t>(bad.size())));
    while (bad[at] < '0' || bad[at] > '9');
    bad[at] = bad[at] == '1' ? '2' : '1';
    write_atomically(file, bad);
    fs::remove(job.tree().record(kCell));
    CHECK(job.run().done == 1);
    CHECK(read_text(file) == good);
  }
}

TEST_CASE("kept predictions beside other classes of the original are made again") {
  Job job(json{{"approaches", {"NONE"}}});
  job.run();
  const fs::path file = job.tree().subject("S") / "original.json";
  const fs::path predictions = job.tree().cell(kCell) / "predictions.csv";
  json original = read_sealed(file);
  const int before = original["classes"]["test"][7];
  CHECK(metrics::read_predictions(predictions).original[7] == before);
  original["classes"]["test"][7] = (before + 1) % 3;  // as another machine might have it
  write_sealed(file, original, -1);
  job.change({{"corrupted_below", 0.4}});  // measured again, with what is kept
  CHECK(job.run().done == 1);
  CHECK(metrics::read_predictions(predictions).original[7] == (before + 1) % 3);
}

TEST_CASE("predictions that were cut, mixed or edited give no numbers, or their own") {
  TemporaryFolder folder;
  const fs::path file = folder / "predictions.csv";
  metrics::SplitOutcome whole;
  for (int k = 0; k < 40; ++k) {
    whole.label.push_back(k % 12);
    whole.original.push_back(k % 11);
    whole.fixed.push_back(k % 10);
  }
  const std::string text = metrics::predictions_csv(whole);
  const auto read = [&](const std::string& content) {
    write_atomically(file, content, Flush::nothing);
    return metrics::read_predictions(file);
  };
  CHECK(read(text).fixed == whole.fixed);
  int refused = 0;
  for (size_t length = 0; length < text.size(); ++length) {
    try {
      const metrics::SplitOutcome found = read(text.substr(0, length));
      for (size_t k = 0; k < found.fixed.size(); ++k) {
        REQUIRE((found.label[k] == whole.label[k] && found.original[k] == whole.original[k] &&
                 found.fixed[k] == whole.fixed[k]));
      }
    } catch (const UserError&) {
      ++refused;
    }
  }
  CHECK(refused == static_cast<int>(text.size()) - 40);  // but after the header and each row but the last
  const auto edited = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  for (const std::string& bad : {edited("\n3,3,3,3", ""), edited("\n3,3,3,3\n4,4,4,4", "\n4,4,4,4\n3,3,3,3"),
                                 edited("\n3,3,3,3", "\n3,3,-1,3"), edited("\n3,3,3,3", "\n3,3,4294967299,3"),
                                 edited("\n3,3,3,3", "\n3,3,3,3\n3,3,3,3"), text + "\n"}) {
    CHECK_THROWS_AS(read(bad), UserError);
  }
}

// Properties of fixes that are stopped and go on.
#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "harness/core/random.hpp"
#include "tests/conformance/properties.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

constexpr int64_t kMaxPollsAfterStop = 8;
constexpr double kMaxSecondsAfterStop = 0.5;  // a whole fix takes less on these networks
constexpr double kMaxMegabytesAfterStop = 64;

std::string place(int64_t stop, const StopsTried& stops) {
  return "stopped at poll " + std::to_string(stop) + " of " + std::to_string(stops.polls) + ": ";
}

// Candidates of the first population of a search, or of a swarm; 0 where the approach has none.
int64_t first_population(const Case& one) {
  const nlohmann::json values = one.setup().hyperparameters.values();
  for (const char* name : {"population", "particles"}) {
    if (values.contains(name) && values.at(name).is_number_integer()) return values.at(name).get<int64_t>();
  }
  return 0;
}

// What differs between two fixes that should be the same.
std::vector<std::string> differences(const Observed& a, const Observed& b) {
  std::vector<std::string> found;
  const auto demand = [&](bool same, const char* what) {
    if (!same) found.push_back(std::string(what) + " differ");
  };
  if (!a.thrown.empty() || !b.thrown.empty()) return {"threw " + a.thrown + b.thrown};
  demand(a.result.failure.code == b.result.failure.code, "failures");
  demand(a.result.network.has_value() == b.result.network.has_value(), "one network, so fixes");
  if (a.result.network && b.result.network)
    demand(a.result.network->digest() == b.result.network->digest(), "parameters");
  demand(a.result.touched.everything == b.result.touched.everything &&
             a.result.touched.weights == b.result.touched.weights,
         "touched weights");
  demand(a.result.note == b.result.note, "notes");
  demand(a.log.counters == b.log.counters, "counters");
  demand(a.log.scalars == b.log.scalars, "scalars");
  demand(a.log.series == b.log.series, "series");
  return found;
}

void append(Complaints& complaints, const std::string& where, const std::vector<std::string>& found) {
  for (const std::string& text : found) complaints.push_back(where + text);
}

Observed go_on(const Case& one, const std::vector<CheckpointState>& saves, int64_t stop_at = -1) {
  Watching watching{.stop_at = stop_at};
  if (!saves.empty()) watching.saved = saves.back();
  return observe(one, watching);
}

}  // namespace

std::string lines_of(const Complaints& complaints) {
  std::string text;
  for (const std::string& complaint : complaints) text += complaint + "\n";
  return text;
}

StopsTried stops_of(const Case& one, int maximum) {
  StopsTried stops{observe(one).polls, {}};
  if (stops.polls == 0) return stops;
  std::set<int64_t> places = {0, stops.polls - 1};
  RandomStream points(static_cast<uint64_t>(stops.polls));
  const auto enough = std::min<size_t>(static_cast<size_t>(maximum), static_cast<size_t>(stops.polls));
  while (places.size() < enough) places.insert(points.below(stops.polls));
  stops.at.assign(places.begin(), places.end());
  return stops;
}

Complaints stop_complaints(const Case& one, const StopsTried& stops) {
  Complaints complaints;
  const Observed whole = observe(one);
  for (const int64_t at : stops.at) {
    const auto complain = [&](const std::string& text) { complaints.push_back(place(at, stops) + text); };
    const Observed part = observe(one, {.stop_at = at});
    if (!part.thrown.empty()) complain("threw " + part.thrown);
    if (!part.thrown.empty() || !part.was_stopped()) continue;
    if (part.result.network) {
      append(complaints, place(at, stops), touched_complaints(*one.network, part.result));
      const auto made = part.log.counters.find("evaluations");
      const int64_t evaluated = made == part.log.counters.end() ? 0 : made->second;
      if (evaluated < first_population(one))
        complain("a network after " + std::to_string(evaluated) + " of the first " +
                 std::to_string(first_population(one)) + " candidates");
    } else if (part.result.failure.code != "timeout" &&
               part.result.failure.code != whole.result.failure.code) {
      complain("FAILURE " + part.result.failure.code + ", not timeout");
    } else if (part.result.failure.text.empty()) {
      complain("a FAILURE without a text");
    }
    if (part.polls_after_stop > kMaxPollsAfterStop)
      complain("asked " + std::to_string(part.polls_after_stop) + " times more");
    if (part.seconds_after_stop > kMaxSecondsAfterStop)
      complain("went on for " + std::to_string(part.seconds_after_stop) + " s");
    if (part.megabytes_after_stop > kMaxMegabytesAfterStop)
      complain("took " + std::to_string(part.megabytes_after_stop) + " MB more");
    if (!part.log.running.empty()) complain("a clock of a phase was left running");
  }
  return complaints;
}

Complaints resume_complaints(const Case& one, const StopsTried& stops) {
  Complaints complaints;
  const Observed whole = observe(one);
  for (const int64_t at : stops.at) {
    const Observed part = observe(one, {.stop_at = at});
    append(complaints, place(at, stops), differences(go_on(one, part.saves), whole));
  }
  const Observed often = observe(one, {.save_often = true});
  append(complaints, "with checkpoints on the way: ", differences(often, whole));
  const auto count = static_cast<int64_t>(often.saves.size());
  RandomStream points(5);
  for (const int64_t at : points.sample(count, std::min<int64_t>(count, 4))) {
    append(complaints, "from checkpoint " + std::to_string(at) + " of " + std::to_string(count) + ": ",
           differences(go_on(one, {often.saves[static_cast<size_t>(at)]}), whole));
  }
  return complaints;
}

Complaints second_stop_complaints(const Case& one, const StopsTried& stops) {
  Complaints complaints;
  const Observed whole = observe(one);
  for (const int64_t at : stops.at) {
    const Observed first = observe(one, {.stop_at = at});
    const bool had = first.result.network.has_value();
    if (had && first.saves.empty() && !differences(first, whole).empty())
      complaints.push_back(place(at, stops) + "left less than the whole fix, and no checkpoint");
    const Observed second = go_on(one, first.saves, 0);
    if (had && !first.saves.empty() && !second.result.network)
      complaints.push_back(place(at, stops) + "a second stop lost the network");
    const Observed rest = go_on(one, second.saves.empty() ? first.saves : second.saves);
    append(complaints, place(at, stops) + "after a second stop: ", differences(rest, whole));
  }
  return complaints;
}

Complaints seed_complaints(const Case& one, bool draws) {
  Complaints complaints;
  const Observed whole = observe(one);
  append(complaints, "the same seed: ", differences(observe(one), whole));
  bool differs = false;
  for (uint64_t seed = 100; seed < 104; ++seed) {
    const Observed other = observe(one, {.change = [&](FixContext::Setup& setup) { setup.seed = seed; }});
    const std::vector<std::string> found = differences(other, whole);
    if (!other.thrown.empty())
      complaints.push_back("seed " + std::to_string(seed) + " threw " + other.thrown);
    differs |= !found.empty();
    if (!draws) append(complaints, "is said not to draw, but another seed: ", found);
  }
  if (draws && !differs) complaints.push_back("is said to draw, but its seed makes no difference");
  return complaints;
}

}  // namespace harness::testing

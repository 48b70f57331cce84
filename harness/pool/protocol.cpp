#include "harness/pool/protocol.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

// How the library writes and reads the types of fields. It finds these functions by their argument's
// namespace, so they cannot be in an unnamed one.
namespace harness {

using nlohmann::json;

// The value among `all` whose text (`to_text`) this is.
template <typename Enum, size_t count>
static Enum value_of(const json& text, const std::array<Enum, count>& all) {
  const auto found = std::find_if(all.begin(), all.end(), [&](Enum one) { return text == to_text(one); });
  if (found == all.end()) throw std::invalid_argument("no word that is known here: " + text.dump());
  return *found;
}

static void to_json(json& value, const Status& status) {
  value = to_text(status);
}
static void from_json(const json& value, Status& status) {
  status = value_of(value, std::array{Status::ok, Status::unadaptable, Status::failure, Status::corrupted});
}
static void to_json(json& value, const Level& level) {
  value = to_text(level);
}
static void from_json(const json& value, Level& level) {
  level = value_of(value,
                   std::array{Level::model, Level::layer, Level::neuron, Level::control, Level::published});
}
static void to_json(json& value, const Basis& basis) {
  value = to_text(basis);
}
static void from_json(const json& value, Basis& basis) {
  basis = value_of(value,
                   std::array{Basis::none, Basis::reference_code, Basis::publication, Basis::toolkit_version,
                              Basis::reconstruction, Basis::adaptation, Basis::inferred_identity});
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Problem, file, place, found, expected, suggestion)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CellId, subject, model, approach, run)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PlannedCell, cell, key, name, level, basis, in_study, seed, identity,
                                   digest)

namespace plan {

static void to_json(json& value, const Reuse& reuse) {
  value = to_text(reuse);
}
static void from_json(const json& value, Reuse& reuse) {
  reuse = value_of(value, std::array{Reuse::everything, Reuse::retry, Reuse::nothing});
}

}  // namespace plan

namespace pool {

static void to_json(json& value, const CellEntry& entry) {
  value = {{"planned", entry.planned},
           {"subject", entry.subject},
           {"approach", entry.approach ? json(*entry.approach) : json(nullptr)},
           {"published", entry.published}};
}
static void from_json(const json& value, CellEntry& entry) {
  value.at("planned").get_to(entry.planned);
  value.at("subject").get_to(entry.subject);
  const json& approach = value.at("approach");
  entry.approach = approach.is_null() ? std::nullopt : std::optional(approach.get<int64_t>());
  value.at("published").get_to(entry.published);
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(StartWorker, configuration, limit, results, device, threads, workers)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ProbeEntries, entries)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ComputeCell, entry, reuse, lease, redo)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WorkerReady, device)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EntriesProbed, problems)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RequestRefused, problems)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RequestFailed, why, of_file)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PartBegun, name, spent, keeps_own_budget)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FixBegun, resident_megabytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CellProgress, done, what)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CellFinished, status, reason, mistrusted, seconds)

namespace {

constexpr const char* kMessage = "message";
constexpr size_t kShownBytes = 120;  // of a line that is no message

template <typename... Messages>
json to_object(const std::variant<Messages...>& message) {
  return std::visit(
      [](const auto& one) {
        using Message = std::decay_t<decltype(one)>;
        json object = json::object();
        if constexpr (!std::is_empty_v<Message>) to_json(object, one);
        object[kMessage] = Message::kName;
        return object;
      },
      message);
}

template <typename Message>
Message read_one(const json& object) {
  Message message;
  if constexpr (!std::is_empty_v<Message>) from_json(object, message);
  return message;
}

// The alternative that the object names.
template <typename... Messages>
void read_object(const json& object, std::optional<std::variant<Messages...>>* found) {
  const std::string name = object.at(kMessage);
  ((name == Messages::kName ? void(*found = read_one<Messages>(object)) : void()), ...);
  if (!*found) throw std::invalid_argument("no message has the name \"" + name + '"');
}

template <typename Message>
Message read_line(const std::string& line) {
  std::optional<Message> found;
  std::string why;
  try {
    read_object(json::parse(line), &found);
    return *found;
  } catch (const json::exception& error) {
    why = error.what();
  } catch (const std::invalid_argument& error) {
    why = error.what();
  }
  const std::string shown = line.size() > kShownBytes ? line.substr(0, kShownBytes) + "..." : line;
  throw MalformedMessage("no message between engine and worker (" + why + "): " + shown);
}

}  // namespace

CellEntry cell_entry(const Config& config, const plan::PlanEntry& entry) {
  CellEntry places{entry.planned, entry.subject - config.subjects.data(), std::nullopt,
                   entry.published.string()};
  if (entry.approach != nullptr) places.approach = entry.approach - config.approaches.data();
  return places;
}

plan::PlanEntry plan_entry(const Config& config, const CellEntry& entry) {
  plan::PlanEntry found;
  found.planned = entry.planned;
  found.subject = &config.subjects.at(static_cast<size_t>(entry.subject));
  if (entry.approach) found.approach = &config.approaches.at(static_cast<size_t>(*entry.approach));
  found.published = entry.published;
  return found;
}

std::string to_line(const Request& request) {
  return to_object(request).dump();
}

std::string to_line(const Reply& reply) {
  return to_object(reply).dump(-1, ' ', false, json::error_handler_t::replace);
}

Request read_request(const std::string& line) {
  return read_line<Request>(line);
}

Reply read_reply(const std::string& line) {
  return read_line<Reply>(line);
}

void throw_if_any(const std::vector<Problem>& problems) {
  std::vector<Problem> different;
  for (const Problem& problem : problems) {
    const bool known = std::any_of(different.begin(), different.end(),
                                   [&](const Problem& other) { return to_text(other) == to_text(problem); });
    if (!known) different.push_back(problem);
  }
  if (!different.empty()) throw UserError(std::move(different));
}

}  // namespace pool
}  // namespace harness

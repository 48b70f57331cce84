#include "harness/measure/metrics/outcomes.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "harness/core/files.hpp"
#include "harness/store/results.hpp"

namespace harness::metrics {
namespace {

// Rows of whole numbers under a header line that must be one of `headers`.
std::vector<std::vector<int64_t>> read_numbers(const std::filesystem::path& file,
                                               const std::vector<std::string_view>& headers) {
  std::string content;
  try {
    content = read_text(file);
  } catch (const UserError& error) {
    // A file that is there and cannot be read now, as where too many are open, is no damage.
    std::error_code ignored;
    if (std::filesystem::is_regular_file(file, ignored)) throw;
    throw ResultsError(error.problems());
  }
  std::string_view rest = content;
  size_t number = 0, columns = 0;
  const auto fail = [&](std::string_view line, const std::string& expected) {
    throw ResultsError(Problem{file.string(), "line " + std::to_string(number), '"' + std::string(line) + '"',
                               expected, ""});
  };
  std::vector<std::vector<int64_t>> rows;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (++number == 1) {
      bool known = false;
      for (const std::string_view header : headers) known = known || header == line;
      if (!known) fail(line, "the header " + std::string(headers.front()));
      columns = static_cast<size_t>(std::count(line.begin(), line.end(), ',')) + 1;
      continue;
    }
    std::vector<int64_t> row(columns);
    const char* at = line.data();
    const char* stop = at + line.size();
    for (size_t i = 0; i < columns; ++i) {
      const auto [next, error] = std::from_chars(at, stop, row[i]);
      const bool last = i + 1 == columns;
      if (error != std::errc() || (last ? next != stop : next == stop || *next != ',')) {
        fail(line, std::to_string(columns) + " whole numbers");
      }
      at = next + 1;
    }
    rows.push_back(std::move(row));
  }
  if (number == 0) fail("", "the header " + std::string(headers.front()));
  if (content.back() != '\n') fail("no end of line", "a whole last line");  // a cut "123" may have left "12"
  return rows;
}

}  // namespace

std::string predictions_csv(const SplitOutcome& outcome) {
  std::string text = "index,label,original,fixed\n";
  for (size_t i = 0; i < outcome.label.size(); ++i) {
    text += std::to_string(i) + ',' + std::to_string(outcome.label[i]) + ',' +
            std::to_string(outcome.original[i]) + ',' + std::to_string(outcome.fixed[i]) + '\n';
  }
  return text;
}

std::string attack_csv(const AttackOutcome& outcome) {
  const bool margin = !outcome.fixed_margin.empty();
  std::string text = "image,original,fixed,zero_gradient_original,zero_gradient";
  text += margin ? ",original_margin,fixed_margin\n" : "\n";
  for (size_t i = 0; i < outcome.image.size(); ++i) {
    text += std::to_string(outcome.image[i]);
    for (const auto* flags : {&outcome.original, &outcome.fixed, &outcome.zero_gradient_original,
                              &outcome.zero_gradient, &outcome.original_margin, &outcome.fixed_margin}) {
      if (flags->empty()) continue;
      text += (*flags)[i] != 0 ? ",1" : ",0";
    }
    text += '\n';
  }
  return text;
}

SplitOutcome read_predictions(const std::filesystem::path& file) {
  SplitOutcome outcome;
  for (const auto& row : read_numbers(file, {"index,label,original,fixed"})) {
    const auto index = static_cast<int64_t>(outcome.label.size());
    const bool are_classes = std::all_of(row.begin() + 1, row.end(), [](int64_t value) {
      return value >= 0 && value <= std::numeric_limits<int32_t>::max();
    });
    if (row[0] != index || !are_classes) {
      throw ResultsError(Problem{file.string(), "line " + std::to_string(index + 2),
                                 "index " + std::to_string(row[0]),
                                 "index " + std::to_string(index) + " and classes from 0", ""});
    }
    outcome.label.push_back(static_cast<int32_t>(row[1]));
    outcome.original.push_back(static_cast<int32_t>(row[2]));
    outcome.fixed.push_back(static_cast<int32_t>(row[3]));
  }
  return outcome;
}

AttackOutcome read_attack(const std::filesystem::path& file) {
  AttackOutcome outcome;
  for (const auto& row : read_numbers(
           file,
           {"image,original,fixed,zero_gradient_original,zero_gradient",
            "image,original,fixed,zero_gradient_original,zero_gradient,original_margin,fixed_margin"})) {
    for (size_t k = 1; k < row.size(); ++k) {
      if (row[k] == 0 || row[k] == 1) continue;
      throw ResultsError(Problem{file.string(), "line " + std::to_string(outcome.image.size() + 2),
                                 std::to_string(row[k]), "flags that are 0 or 1", ""});
    }
    outcome.image.push_back(row[0]);
    outcome.original.push_back(static_cast<uint8_t>(row[1]));
    outcome.fixed.push_back(static_cast<uint8_t>(row[2]));
    outcome.zero_gradient_original.push_back(static_cast<uint8_t>(row[3]));
    outcome.zero_gradient.push_back(static_cast<uint8_t>(row[4]));
    if (row.size() == 5) continue;
    outcome.original_margin.push_back(static_cast<uint8_t>(row[5]));
    outcome.fixed_margin.push_back(static_cast<uint8_t>(row[6]));
  }
  return outcome;
}

}  // namespace harness::metrics

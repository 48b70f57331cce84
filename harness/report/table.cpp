#include "harness/report/table.hpp"

#include <algorithm>

#include "harness/core/files.hpp"

namespace harness::report {
namespace {

void append_line(const std::vector<std::string>& fields, std::string* text) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) *text += ',';
    *text += csv_field(fields[i]);
  }
  *text += '\n';
}

size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string to_csv(const Table& table) {
  std::string text;
  append_line(table.columns, &text);
  for (const auto& row : table.rows) append_line(row, &text);
  return text;
}

nlohmann::json to_json(const Table& table) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& row : table.rows) {
    nlohmann::json object = nlohmann::json::object();
    for (size_t i = 0; i < table.columns.size(); ++i) object[table.columns[i]] = row[i];
    list.push_back(std::move(object));
  }
  return list;
}

std::string to_aligned(const std::vector<std::vector<std::string>>& header,
                       const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths;
  for (const auto* part : {&header, &rows}) {
    for (const auto& row : *part) {
      widths.resize(std::max(widths.size(), row.size()), 0);
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string text;
  const auto append = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - width_of(row[i]), ' ');
      if (i > 0) line += "  ";
      line += i < left ? row[i] + blanks : blanks + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  for (const auto& row : header) append(row);
  if (!header.empty()) {
    size_t total = widths.empty() ? 0 : 2 * (widths.size() - 1);
    for (const size_t width : widths) total += width;
    text += std::string(total, '-') + '\n';
  }
  for (const auto& row : rows) append(row);
  return text;
}

}  // namespace harness::report

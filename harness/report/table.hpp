#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace harness::report {

// Rows and columns of text. Numbers are written so that they read back as the same double; "" is a missing
// value.
struct Table {
  std::string name;  // "rq2": the file's stem
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // each as long as `columns`
};

std::string to_csv(const Table& table);
nlohmann::json to_json(const Table& table);  // a list of objects, in column order

// A table for people: columns padded to their widest entry with two blanks between, the first `left` columns
// flush left, the others flush right. Width counts characters, not bytes (UTF-8).
std::string to_aligned(const std::vector<std::vector<std::string>>& header,
                       const std::vector<std::vector<std::string>>& rows, size_t left);

}  // namespace harness::report

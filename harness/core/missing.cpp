#include "harness/core/missing.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "harness/core/error.hpp"
#include "harness/core/file_kind.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

// Folders below data/ that scripts/prepare fills.
struct KnownSet {
  const char* folder;
  const char* trained;  // architecture of scripts/train, or ""
};
constexpr std::array<KnownSet, 5> kKnownSets = {{{"mnist", "lenet5"},
                                                 {"cifar10", "vgg16"},
                                                 {"cifar10s", "resnet18"},
                                                 {"utkface", "facenet"},
                                                 {"imagenet", ""}}};
constexpr std::array<const char*, 10> kArchitectures = {
    "lenet5",   "resnet18", "resnet20", "resnet32",    "resnet44",
    "resnet56", "vgg16",    "facenet",  "densenet121", "efficientnet_lite0"};

// The weights of this one come with a Python package.
constexpr const char* kPackaged = "efficientnet_lite0";
// Its data file: the same images with other normalisation constants.
constexpr const char* kLiteData = "imagenet_lite";

std::string prepare_command(const KnownSet& set, const fs::path& file) {
  const std::string constants = file.stem() == kLiteData ? " --mean 0.498 --std 0.502" : "";
  return "scripts/prepare " + std::string(set.folder) + " --source DIR" + constants + " --out " +
         file.string();
}

std::string model_command(const KnownSet& set, const fs::path& file) {
  const std::string stem = file.stem().string(), trained = set.trained;
  if (file.parent_path().filename() == "history") return "scripts/train " + std::string(set.folder);
  const bool known = std::find(kArchitectures.begin(), kArchitectures.end(), stem) != kArchitectures.end();
  const std::string architecture = known ? stem : trained;
  if (architecture.empty()) return "";
  const std::string weights = architecture == kPackaged ? "" : " --weights FILE";
  const std::string exported = "scripts/export " + architecture + weights + " --out " + file.string();
  return stem == trained ? "scripts/train " + std::string(set.folder) + ", or " + exported : exported;
}

std::string command_for(const fs::path& file) {
  std::vector<std::string> parts;
  for (const fs::path& part : file.lexically_normal()) parts.push_back(part.string());
  std::string folder;
  for (size_t i = 0; i + 2 < parts.size(); ++i) {
    if (parts[i] == "data") folder = parts[i + 1];
  }
  if (folder == "digits") return "scripts/demo";
  for (const KnownSet& set : kKnownSets) {
    if (folder != set.folder) continue;
    if (file.extension() == ".h5") return prepare_command(set, file);
    if (file.extension() == ".pt") return model_command(set, file);
  }
  return "";
}

std::string similar_file(const fs::path& file) {
  constexpr size_t kMaxNames = 1000;
  std::vector<std::string> names;
  std::error_code ignored;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (fs::directory_iterator entry(folder, ignored), end; entry != end && names.size() < kMaxNames;
       entry.increment(ignored)) {
    if (entry->is_regular_file(ignored)) names.push_back(entry->path().filename().string());
  }
  return nearest_name(file.filename().string(), names);
}

}  // namespace

std::optional<FileProblem> file_problem(const fs::path& file, bool may_stream) {
  std::error_code code;
  const fs::file_status status = fs::status(file, code);
  if (status.type() == fs::file_type::not_found) {
    const std::string command = command_for(file);
    return FileProblem{"no file " + file.string(), command.empty() ? similar_file(file) : command};
  }
  if (fs::is_directory(status)) return FileProblem{"a folder, " + file.string(), ""};
  if (code) return FileProblem{file.string() + " (" + code.message() + ")", ""};
  if (::access(file.c_str(), R_OK) != 0) {
    return FileProblem{file.string() + " (" + std::strerror(errno) + ")", ""};
  }
  if (may_stream || code || fs::is_regular_file(status)) return std::nullopt;
  const FileContent content = content_of(file);
  return FileProblem{content.found + " in place of a file, " + file.string(), content.remedy};
}

std::optional<FileProblem> data_file_problem(const fs::path& file) {
  std::optional<FileProblem> problem = file_problem(file);
  if (!problem) return std::nullopt;
  const FileContent content = content_of(file);
  if (content.kind == FileKind::folder) problem->suggestion = data_remedy(content, file);
  return problem;
}

}  // namespace harness

#include "harness/core/missing.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "harness/core/error.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

// Folders below data/ that scripts/prepare fills, and the architecture that scripts/export makes for each.
struct KnownSet {
  const char* folder;
  const char* architecture;
};
constexpr std::array<KnownSet, 5> kKnownSets = {{{"mnist", "lenet5"},
                                                 {"cifar10", "vgg16"},
                                                 {"cifar10s", "resnet18"},
                                                 {"utkface", "facenet"},
                                                 {"imagenet", "densenet121"}}};

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
    if (file.extension() == ".h5")
      return "scripts/prepare " + folder + " --source DIR --out " + file.string();
    if (file.extension() == ".pt") {
      const std::string stem = file.stem().string();
      const bool named =
          stem.starts_with("resnet") || stem.starts_with("vgg") || stem.starts_with("densenet");
      return "scripts/export " + (named ? stem : set.architecture) + " --weights FILE --out " + file.string();
    }
  }
  return "";
}

std::string neighbour_of(const fs::path& file) {
  constexpr size_t kMostNames = 1000;
  std::vector<std::string> names;
  std::error_code ignored;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (fs::directory_iterator entry(folder, ignored), end; entry != end && names.size() < kMostNames;
       entry.increment(ignored)) {
    if (entry->is_regular_file(ignored)) names.push_back(entry->path().filename().string());
  }
  return nearest_name(file.filename().string(), names);
}

}  // namespace

std::optional<FileTrouble> trouble_with_file(const fs::path& file) {
  std::error_code code;
  const fs::file_status status = fs::status(file, code);
  if (status.type() == fs::file_type::not_found) {
    const std::string command = command_for(file);
    return FileTrouble{"no file " + file.string(), command.empty() ? neighbour_of(file) : command};
  }
  if (fs::is_directory(status)) return FileTrouble{"a folder, " + file.string(), ""};
  if (code) return FileTrouble{file.string() + " (" + code.message() + ")", ""};
  if (::access(file.c_str(), R_OK) != 0) {
    return FileTrouble{file.string() + " (" + std::strerror(errno) + ")", ""};
  }
  return std::nullopt;
}

}  // namespace harness

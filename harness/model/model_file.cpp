#include "harness/model/model_file.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

namespace harness {
namespace {

constexpr const char* kTorchScript = "TorchScript, as torch.jit.save writes it";
constexpr size_t kHead = 1 << 16;  // bytes that are looked at: of the file, and of an entry

struct Entry {
  std::string name;
  uint64_t header = 0;  // where its local header begins
  bool stored = false;  // not compressed
};

std::string bytes_at(std::ifstream& in, uint64_t offset, size_t count) {
  std::string bytes(count, '\0');
  in.clear();
  in.seekg(static_cast<std::streamoff>(offset));
  in.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

// Little-endian number of `count` bytes; 0 beyond the end.
uint64_t number_at(const std::string& bytes, size_t offset, size_t count) {
  uint64_t value = 0;
  if (offset + count > bytes.size()) return 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

// The central directory of a zip archive; nullopt where its end is missing.
std::optional<std::vector<Entry>> zip_entries(std::ifstream& in, uint64_t size) {
  constexpr size_t kEnd = 22, kLongestComment = 65535, kEntry = 46, kLongestDirectory = size_t{1} << 26;
  const uint64_t tail = std::min<uint64_t>(size, kEnd + kLongestComment);
  const std::string end = bytes_at(in, size - tail, tail);
  const size_t found = end.rfind("PK\5\6");
  if (found == std::string::npos || found + kEnd > end.size()) return std::nullopt;
  // Archives beyond 4 GB have these numbers elsewhere; none of the files told apart here is one.
  const uint64_t length = std::min<uint64_t>({number_at(end, found + 12, 4), size, kLongestDirectory});
  const std::string directory = bytes_at(in, number_at(end, found + 16, 4), length);
  std::vector<Entry> entries;
  for (size_t at = 0; at + kEntry <= directory.size() && directory.compare(at, 4, "PK\1\2") == 0;) {
    const size_t name = number_at(directory, at + 28, 2);
    entries.push_back({.name = directory.substr(at + kEntry, name),
                       .header = number_at(directory, at + 42, 4),
                       .stored = number_at(directory, at + 10, 2) == 0});
    at += kEntry + name + number_at(directory, at + 30, 2) + number_at(directory, at + 32, 2);
  }
  return entries;
}

std::string head_of(std::ifstream& in, const Entry& entry) {
  if (!entry.stored) return "";
  const std::string header = bytes_at(in, entry.header, 30);
  return bytes_at(in, entry.header + 30 + number_at(header, 26, 2) + number_at(header, 28, 2), kHead);
}

// "__main__.Net" of a pickle whose first object is of that class.
std::string first_class(const std::string& pickle) {
  constexpr size_t kLongestName = 200;
  const size_t begin = pickle.find('c');
  if (begin == std::string::npos || begin > 16) return "";
  const size_t middle = pickle.find('\n', begin), end = pickle.find('\n', middle + 1);
  if (middle == std::string::npos || end == std::string::npos || end - begin > kLongestName) return "";
  return pickle.substr(begin + 1, middle - begin - 1) + "." + pickle.substr(middle + 1, end - middle - 1);
}

// What torch.save wrote: a whole module has the dictionary of one inside, a state dict has not.
Problem problem_with_pickle(const std::string& pickle) {
  Problem problem;
  problem.expected = kTorchScript;
  if (pickle.find("_parameters") != std::string::npos && pickle.find("_buffers") != std::string::npos) {
    problem.found = "a pickled model, of the class " + first_class(pickle) + ", without its code";
    problem.suggestion =
        "torch.jit.script(model).save(FILE.pt) where that class is defined, or scripts/export --factory";
  } else {
    problem.found = "a state dict: weights by name, without the model";
    problem.suggestion =
        "scripts/export ARCHITECTURE --weights FILE, or scripts/export --factory FILE.py:FUNCTION --weights "
        "FILE";
  }
  return problem;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::optional<Problem> problem_with_zip(std::ifstream& in, uint64_t size) {
  const auto entries = zip_entries(in, size);
  if (!entries) {
    return Problem{"", "", "the beginning of a zip archive alone, cut off while it was copied or downloaded",
                   kTorchScript, "copy the whole file again"};
  }
  const auto entry = [&](const std::string& end) {
    return std::find_if(entries->begin(), entries->end(),
                        [&](const Entry& one) { return ends_with("/" + one.name, end); });
  };
  const auto has = [&](const std::string& end) { return entry(end) != entries->end(); };
  if (has("/constants.pkl")) return std::nullopt;
  if (has("/archive_format") || has("/serialized_exported_program.json")) {
    return Problem{
        "", "", "an archive of torch.export (.pt2)", kTorchScript,
        "torch.jit.trace(torch.export.load(FILE).module(), example).save(FILE.pt), or scripts/export"};
  }
  if (has("/model.json")) return std::nullopt;  // TorchScript of LibTorch 1.0 to 1.3
  if (has("/data.pkl")) return problem_with_pickle(head_of(in, *entry("/data.pkl")));
  if (has("/model.weights.h5") || has("/metadata.json")) {
    return Problem{
        "", "", "a Keras archive (.keras)", kTorchScript,
        "model.save_weights(FILE.weights.h5) in Keras, then scripts/export ARCHITECTURE --weights"};
  }
  if (!entries->empty() && ends_with(entries->front().name, ".npy")) {
    return Problem{"", "", "a NumPy archive (.npz)", kTorchScript, ""};
  }
  return Problem{"", "", "a zip archive without a model", kTorchScript, "scripts/export"};
}

}  // namespace

std::optional<Problem> problem_with_model_file(const std::filesystem::path& file) {
  const auto with_file = [&](Problem problem) {
    problem.file = file.string();
    return problem;
  };
  std::error_code unknown;
  const uint64_t size = std::filesystem::file_size(file, unknown);
  std::ifstream in(file, std::ios::binary);
  if (unknown || !in) return std::nullopt;  // whoever reads it says why it cannot be read
  if (size == 0) return with_file({"", "", "an empty file", kTorchScript, "copy or export it again"});
  const std::string head = bytes_at(in, 0, std::min<uint64_t>(size, kHead));
  const auto starts = [&](const std::string& text) { return head.compare(0, text.size(), text) == 0; };
  if (starts("PK\3\4")) {
    std::optional<Problem> problem = problem_with_zip(in, size);
    return problem ? std::optional(with_file(std::move(*problem))) : std::nullopt;
  }
  if (starts("version https://git-lfs")) {
    return with_file({"", "", "a Git LFS pointer in place of the file", kTorchScript, "git lfs pull"});
  }
  std::string word = head.substr(0, 512);
  word.erase(0, word.find_first_not_of(" \t\r\n\xef\xbb\xbf"));
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  if (word.rfind("<!doctype html", 0) == 0 || word.rfind("<html", 0) == 0) {
    return with_file({"", "", "an HTML page, the answer of a web server instead of the file", kTorchScript,
                      "download the file itself"});
  }
  if (starts("\x89HDF\r\n")) {
    return with_file({"", "", "an HDF5 file: weights of Keras, or a data file", kTorchScript,
                      "scripts/export ARCHITECTURE --weights FILE.h5"});
  }
  if (head.size() > 9 && head[8] == '{' && number_at(head, 0, 8) < size) {
    return with_file({"", "", "a safetensors file: weights by name, without the model", kTorchScript,
                      "scripts/export ARCHITECTURE --weights FILE.safetensors"});
  }
  const std::string old_torch_save("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
  if (const size_t at = head.find("\x80\x02", old_torch_save.size()); starts(old_torch_save)) {
    // Behind the magic number come three pickles: protocol version, system, and what was saved.
    const size_t system = head.find("\x80\x02", at + 2), saved = head.find("\x80\x02", system + 2);
    return with_file(problem_with_pickle(saved < head.size() ? head.substr(saved) : ""));
  }
  if (starts("\x80")) return with_file({"", "", "a Python pickle", kTorchScript, "scripts/export"});
  return with_file({"", "", "a file of another kind", kTorchScript, "scripts/export"});
}

std::string cause_of(const std::string& message) {
  const std::string unknown = "Unknown builtin op: ";
  if (const size_t begin = message.find(unknown); begin != std::string::npos) {
    std::string name = message.substr(begin + unknown.size());
    name = name.substr(0, name.find_first_of("\n "));
    if (ends_with(name, ".")) name.pop_back();
    return "operator " + name + ", which LibTorch does not have";
  }
  std::istringstream lines(message);
  std::string first, cause;
  for (std::string line; std::getline(lines, line);) {
    if (first.empty() && line.find_first_not_of(" \t") != std::string::npos) first = line;
    // "RuntimeError: text", "torch.jit.Error: text": a name at the beginning of the line.
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    const std::string name = line.substr(0, colon);
    const bool word = std::all_of(name.begin(), name.end(),
                                  [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_'; });
    if (word && (ends_with(name, "Error") || ends_with(name, "Exception"))) cause = line.substr(colon + 2);
  }
  return cause.empty() ? first : cause;
}

}  // namespace harness

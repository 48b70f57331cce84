#include "harness/core/file_kind.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

namespace harness {

namespace fs = std::filesystem;

namespace {

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
  // Archives above 4 GB keep these numbers elsewhere; none of the kinds recognised here is that large.
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

// What torch.save wrote: a whole module contains a module's dictionary, a state dict does not.
FileContent torch_pickle(const std::string& pickle) {
  if (pickle.find("_parameters") == std::string::npos || pickle.find("_buffers") == std::string::npos) {
    return {FileKind::torch_weights, "a state dict: weights by name, without the model", ""};
  }
  const std::string name = first_class(pickle);
  return {FileKind::torch_module,
          "a pickled model" + (name.empty() ? "" : ", of the class " + name) + ", without its code", ""};
}

FileContent zip_content(std::ifstream& in, uint64_t size) {
  const auto entries = zip_entries(in, size);
  if (!entries) {
    return {FileKind::cut_zip,
            "the beginning of a zip archive alone, cut off while it was copied or downloaded",
            "copy the whole file again"};
  }
  const auto entry = [&](const std::string& end) {
    return std::find_if(entries->begin(), entries->end(),
                        [&](const Entry& one) { return ("/" + one.name).ends_with(end); });
  };
  const auto has = [&](const std::string& end) { return entry(end) != entries->end(); };
  if (has("/constants.pkl")) return {FileKind::torch_script, "a TorchScript model", ""};
  if (has("/archive_format") || has("/serialized_exported_program.json")) {
    return {FileKind::torch_export, "an archive of torch.export (.pt2)", ""};
  }
  // TorchScript of LibTorch 1.0 to 1.3
  if (has("/model.json")) return {FileKind::torch_script, "a TorchScript model", ""};
  if (has("/data.pkl")) return torch_pickle(head_of(in, *entry("/data.pkl")));
  if (has("/model.weights.h5") || has("/metadata.json")) {
    return {FileKind::keras, "a Keras archive (.keras)", ""};
  }
  if (!entries->empty() && entries->front().name.ends_with(".npy")) {
    return {FileKind::npz, "a NumPy archive (.npz)", ""};
  }
  return {FileKind::zip, "a zip archive of other content", ""};
}

struct Magic {
  std::string_view bytes;
  FileKind kind;
  const char* found;
  const char* remedy;
};

using namespace std::string_view_literals;

constexpr std::array<Magic, 9> kMagic = {
    {{"version https://git-lfs"sv, FileKind::lfs_pointer, "a Git LFS pointer in place of the file",
      "git lfs pull"},
     {"\x89HDF\r\n"sv, FileKind::hdf5, "an HDF5 file", ""},
     {"\x93NUMPY"sv, FileKind::npy, "a single NumPy array (.npy)", ""},
     {"\x1f\x8b"sv, FileKind::packed, "a gzip archive", "unpack it first"},
     {"BZh"sv, FileKind::packed, "a bzip2 archive", "unpack it first"},
     {"\xfd"
      "7zXZ\0"sv,
      FileKind::packed, "an xz archive", "unpack it first"},
     {"\x28\xb5\x2f\xfd"sv, FileKind::packed, "a zstd archive", "unpack it first"},
     {"\x89PNG"sv, FileKind::image, "a PNG image", ""},
     {"\xff\xd8\xff"sv, FileKind::image, "a JPEG image", ""}}};

bool is_web_page(const std::string& head) {
  std::string word = head.substr(0, 512);
  word.erase(0, word.find_first_not_of(" \t\r\n\xef\xbb\xbf"));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word.starts_with("<!doctype html") || word.starts_with("<html") || word.starts_with("<head");
}

// Whether there are no control characters but line breaks and tabs.
bool is_text(const std::string& head) {
  return std::none_of(head.begin(), head.end(), [](unsigned char c) {
    return (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f;
  });
}

// Whether two lines have the same number of commas (or semicolons, or tabs).
bool is_table(const std::string& head) {
  const size_t first = head.find('\n'), second = head.find('\n', first + 1);
  if (first == std::string::npos || first + 1 >= head.size()) return false;
  const std::string header = head.substr(0, first), row = head.substr(first + 1, second - first - 1);
  const auto same = [&](char mark) {
    const auto count = std::count(header.begin(), header.end(), mark);
    return count > 0 && count == std::count(row.begin(), row.end(), mark);
  };
  return same(',') || same(';') || same('\t');
}

FileContent pickle_content(const std::string& head) {
  const std::string old_torch_save("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
  if (!head.starts_with(old_torch_save)) return {FileKind::pickle, "a Python pickle", ""};
  // Three pickles follow the magic number: protocol version, system, and the saved object.
  const size_t at = head.find("\x80\x02", old_torch_save.size());
  const size_t system = head.find("\x80\x02", at + 2), saved = head.find("\x80\x02", system + 2);
  return torch_pickle(saved < head.size() ? head.substr(saved) : "");
}

FileContent regular_content(const fs::path& file) {
  std::error_code unknown;
  const uint64_t size = fs::file_size(file, unknown);
  std::ifstream in(file, std::ios::binary);
  if (unknown || !in) return {FileKind::unreadable, "", ""};
  if (size == 0) return {FileKind::empty, "an empty file", "copy or make it again"};
  const std::string head = bytes_at(in, 0, std::min<uint64_t>(size, kHead));
  if (head.empty()) return {FileKind::unreadable, "", ""};
  if (head.starts_with("PK\3\4")) return zip_content(in, size);
  for (const Magic& magic : kMagic) {
    if (head.starts_with(magic.bytes)) return {magic.kind, magic.found, magic.remedy};
  }
  if (is_web_page(head)) {
    return {FileKind::web_page, "an HTML page, the answer of a web server instead of the file",
            "download the file itself"};
  }
  if (head.size() > 9 && head[8] == '{' && number_at(head, 0, 8) < size) {
    return {FileKind::safetensors, "a safetensors file: weights by name, without the model", ""};
  }
  if (head.starts_with("\x80")) return pickle_content(head);
  if (!is_text(head)) return {FileKind::unknown, "a file of another kind, or a damaged one", ""};
  if (is_table(head)) return {FileKind::table, "a table as text (CSV)", ""};
  return {FileKind::text, "a text file", ""};
}

}  // namespace

FileContent content_of(const fs::path& file) {
  std::error_code code;
  const fs::file_status status = fs::status(file, code);
  switch (status.type()) {
    case fs::file_type::regular:
      return regular_content(file);
    case fs::file_type::directory:
      return {FileKind::folder, "a folder", ""};
    case fs::file_type::character:
    case fs::file_type::block:
      return {FileKind::stream, "a device", "name the file itself"};
    case fs::file_type::fifo:
      return {FileKind::stream, "a pipe", "write it to a file, and name that"};
    case fs::file_type::socket:
      return {FileKind::stream, "a socket", "name the file itself"};
    default:
      return {FileKind::unreadable, "", ""};
  }
}

std::string data_remedy(const FileContent& content, const fs::path& file) {
  const auto prepare = [&](const std::string& name) {
    return "scripts/prepare " + name + " --source " + file.string() + " --out FILE.h5";
  };
  switch (content.kind) {
    case FileKind::folder:
      return prepare("images") + " (a folder of arrays: scripts/prepare npz)";
    case FileKind::table:
      return prepare("images");
    case FileKind::npy:
    case FileKind::npz:
      return prepare("npz");
    case FileKind::hdf5:
      return prepare("h5");
    case FileKind::torch_script:
    case FileKind::torch_export:
    case FileKind::torch_module:
      return "name it under \"model\" (--model), and the data file here";
    case FileKind::torch_weights:
    case FileKind::pickle:
      return "save images and labels with numpy.savez, then scripts/prepare npz --source FILE.npz --out "
             "FILE.h5";
    case FileKind::image:
      return "scripts/prepare images --source FOLDER --out FILE.h5";
    default:
      return content.remedy.empty() ? "data files are made by scripts/prepare (see its --help)"
                                    : content.remedy;
  }
}

}  // namespace harness

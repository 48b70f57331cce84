#include <sys/stat.h>

#include <fstream>
#include <set>
#include <vector>

#include "harness/core/file_kind.hpp"
#include "harness/core/missing.hpp"
#include "tests/support.hpp"

using namespace harness;
using testing::TemporaryFolder;

namespace {

struct Sample {
  std::string bytes;
  FileKind kind;
};

std::string little(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
  return bytes;
}

// A zip archive of stored entries without checksums, as far as anybody looks at one here.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string whole, directory;
  for (const auto& [name, content] : entries) {
    const std::string sizes = little(0, 4) + little(content.size(), 4) + little(content.size(), 4);
    directory += "PK\1\2" + little(20, 2) + little(20, 2) + little(0, 8) + sizes + little(name.size(), 2) +
                 little(0, 12) + little(whole.size(), 4) + name;
    whole += "PK\3\4" + little(20, 2) + little(0, 8) + sizes + little(name.size(), 2) + little(0, 2) + name +
             content;
  }
  const size_t begin = whole.size();
  return whole + directory + "PK\5\6" + little(0, 4) + little(entries.size(), 2) + little(entries.size(), 2) +
         little(directory.size(), 4) + little(begin, 4) + little(0, 2);
}

std::vector<Sample> samples() {
  const std::string npy("\x93NUMPY\1\0", 8);
  return {{"", FileKind::empty},
          {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", FileKind::lfs_pointer},
          {"\n <!DOCTYPE HTML><html>Not found</html>", FileKind::web_page},
          {"<html>\n<body>", FileKind::web_page},
          {"\x89HDF\r\n\x1a\n........", FileKind::hdf5},
          {little(2, 8) + "{}" + little(0, 8), FileKind::safetensors},
          {npy, FileKind::npy},
          {zip_of({{"images.npy", npy}, {"labels.npy", npy}}), FileKind::npz},
          {zip_of({{"m/data.pkl", "x"}, {"m/constants.pkl", "x"}}), FileKind::torch_script},
          {zip_of({{"m/archive_format", "pt2"}}), FileKind::torch_export},
          {zip_of({{"m/data.pkl", "\x80\2ccollections\nOrderedDict\n"}}), FileKind::torch_weights},
          {zip_of({{"m/data.pkl", "\x80\2cmine\nNet\n_parameters_buffers"}}), FileKind::torch_module},
          {zip_of({{"metadata.json", "{}"}, {"model.weights.h5", "x"}}), FileKind::keras},
          {zip_of({{"word/document.xml", "x"}}), FileKind::zip},
          {"PK\3\4 and no end", FileKind::cut_zip},
          {"\x80\4\x95more", FileKind::pickle},
          {"\x1f\x8b\b more", FileKind::packed},
          {"\x89PNG\r\n", FileKind::image},
          {"image,label\na.png,3\nb.png,1\n", FileKind::table},
          {"image;label\na.png;3", FileKind::table},
          {"some words, and others\n\n", FileKind::text},
          {std::string("\1\2\0\3", 4), FileKind::unknown}};
}

}  // namespace

TEST_CASE("every kind of file is told by its content, and what is none of data has a way to become some") {
  const TemporaryFolder folder;
  std::set<FileKind> seen;
  for (const Sample& sample : samples()) {
    INFO(sample.bytes.substr(0, 40));
    std::ofstream(folder / "file", std::ios::binary) << sample.bytes;
    const FileContent content = content_of(folder / "file");
    CHECK(content.kind == sample.kind);
    CHECK_FALSE(content.found.empty());
    CHECK_FALSE(data_remedy(content, folder / "file").empty());
    seen.insert(content.kind);
  }
  CHECK(seen.size() == static_cast<size_t>(FileKind::text) - 2);  // all but unreadable, folder and stream
}

TEST_CASE("content cut or damaged anywhere is some kind, never an error") {
  const TemporaryFolder folder;
  for (const Sample& sample : samples()) {
    for (size_t at = 0; at < sample.bytes.size(); ++at) {
      std::ofstream(folder / "cut", std::ios::binary) << sample.bytes.substr(0, at);
      CHECK_NOTHROW(content_of(folder / "cut"));
      std::string damaged = sample.bytes;
      damaged[at] = '\xff';
      std::ofstream(folder / "damaged", std::ios::binary) << damaged;
      CHECK_NOTHROW(content_of(folder / "damaged"));
    }
  }
}

TEST_CASE("what is no file is called what it is") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const auto found = [](const std::filesystem::path& file, bool may_stream) {
    const auto trouble = file_problem(file, may_stream);
    return trouble ? trouble->found : "";
  };
  CHECK(found(folder.path(), true).starts_with("a folder"));
  CHECK(found(folder / "pipe", false).starts_with("a pipe"));
  CHECK(found("/dev/null", false).starts_with("a device"));
  CHECK(found(folder / "absent", false).starts_with("no file"));
  CHECK(found(folder / "pipe", true).empty());
  CHECK(content_of(folder.path()).kind == FileKind::folder);
  CHECK(content_of(folder / "absent").kind == FileKind::unreadable);
}

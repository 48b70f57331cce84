#include <caffe2/serialize/inline_container.h>

#include "harness/core/error.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

// TorchScript files whose tensors reach beyond the bytes that the file holds for them.
using namespace harness;
using namespace harness::testing;

namespace {

using Records = std::map<std::string, std::string>;

Records records_of(const std::filesystem::path& file) {
  caffe2::serialize::PyTorchStreamReader reader(file.string());
  Records records;
  for (const std::string& name : reader.getAllRecords()) {
    const auto [bytes, size] = reader.getRecord(name);
    records[name] = std::string(static_cast<const char*>(bytes.get()), size);
  }
  return records;
}

void write(const std::filesystem::path& file, const Records& records) {
  caffe2::serialize::PyTorchStreamWriter writer(file.string());
  for (const auto& [name, bytes] : records) {
    if (name == ".data/serialization_id" || name == "version") continue;  // the writer's own
    writer.writeRecord(name, bytes.data(), bytes.size());
  }
  writer.writeEndOfFile();
}

}  // namespace

TEST_CASE("a model file with too few bytes for any of its tensors is refused") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder / "short.pt";
  for (const char* name :
       {"residual_scripted", "normalise_traced", "tied_by_data_scripted", "one_storage_scripted"}) {
    const Records records = records_of(fixture(name));
    int64_t tensors = 0;
    for (const auto& [record, bytes] : records) {
      if (record.rfind("data/", 0) != 0 && record.rfind("constants/", 0) != 0) continue;
      ++tensors;
      for (const size_t kept : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
        INFO(name << " " << record << ": " << kept << " of " << bytes.size() << " bytes");
        Records fewer = records;
        fewer[record] = bytes.substr(0, kept);
        write(file, fewer);
        CHECK_THROWS_WITH(
            Network::load(file, images(3)),
            Catch::Matchers::Contains("found a tensor with " + std::to_string(kept) + " bytes"));
      }
    }
    CHECK(tensors > 0);
    write(file, records);
    CHECK_NOTHROW(Network::load(file, images(3)));
  }
}

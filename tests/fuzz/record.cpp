// The bytes are the JSON of a record without its checksum, which is added here; and, as they are, the tables
// of predictions and attacks beside it.
#include "harness/store/record.hpp"
#include "harness/core/error.hpp"
#include "harness/measure/metrics/outcomes.hpp"
#include "harness/store/sealed.hpp"
#include "tests/fuzz/targets.hpp"

namespace harness::testing {
namespace {

template <typename Read>
void read_table(Read read) {
  try {
    read();
  } catch (const UserError&) {
  }
}

}  // namespace

void fuzz_record(std::string_view bytes, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "record.json", table = folder / "table.csv";
  write_bytes(file, bytes);
  read_table([&] { Record::from_file(file); });
  write_bytes(table, bytes);
  read_table([&] { metrics::read_predictions(table); });
  read_table([&] { metrics::read_attack(table); });
  const nlohmann::json value = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return;
  try {
    if (value.is_object()) {
      write_sealed(file, value);
      Record::from_file(file);
    }
    const std::string text = Record::from_json(value, file).to_json().dump();
    if (Record::from_json(nlohmann::json::parse(text), file).to_json().dump() != text) {
      fault("a record that was read changes on its way through a file");
    }
  } catch (const UserError&) {
  }
}

}  // namespace harness::testing

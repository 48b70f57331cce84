#include "harness/model/model_file.hpp"

#include "harness/core/file_kind.hpp"

namespace harness {
namespace {

constexpr const char* kTorchScript = "TorchScript, as torch.jit.save writes it";

// What to do with a file of that kind where a model is wanted.
std::string remedy_for(const FileContent& content) {
  switch (content.kind) {
    case FileKind::torch_export:
      return "torch.jit.trace(torch.export.load(FILE).module(), example).save(FILE.pt), or scripts/export";
    case FileKind::torch_module:
      return "torch.jit.script(model).save(FILE.pt) where that class is defined, or scripts/export --factory";
    case FileKind::torch_weights:
      return "scripts/export ARCHITECTURE --weights FILE, or scripts/export --factory FILE.py:FUNCTION "
             "--weights FILE";
    case FileKind::keras:
      return "model.save(FILE.h5) in Keras, then scripts/export ARCHITECTURE --weights FILE.h5";
    case FileKind::hdf5:
      return "scripts/export ARCHITECTURE --weights FILE.h5, where it holds weights of Keras";
    case FileKind::safetensors:
      return "scripts/export ARCHITECTURE --weights FILE.safetensors";
    case FileKind::npy:
    case FileKind::npz:
    case FileKind::table:
      return "name data under \"data\" (--data), and the model here";
    default:
      return content.remedy.empty() ? "scripts/export" : content.remedy;
  }
}

}  // namespace

std::optional<Problem> problem_with_model_file(const std::filesystem::path& file) {
  const FileContent content = content_of(file);
  if (content.kind == FileKind::torch_script || content.kind == FileKind::unreadable) return std::nullopt;
  const bool weights = content.kind == FileKind::hdf5;
  return Problem{file.string(), "",
                 weights ? "an HDF5 file: weights of Keras, or a data file" : content.found, kTorchScript,
                 remedy_for(content)};
}

}  // namespace harness

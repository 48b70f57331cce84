#pragma once

#include <filesystem>
#include <string>

namespace harness {

// What a file is by its content: its first bytes and, in zip archives, the names of the entries. Names of
// files are ignored. Messages that refuse a model or data file say what it is instead.
enum class FileKind {
  unreadable,     // opening it reports why
  unknown,        // none of these
  folder,         // a directory
  stream,         // a device, a pipe or a socket
  empty,          // without a byte
  lfs_pointer,    // what git-lfs leaves where the file was not fetched
  web_page,       // what a web server answers instead of the file
  hdf5,           // a data file, weights of Keras, or anything else
  safetensors,    // weights by name
  npy,            // one NumPy array
  npz,            // several
  torch_script,   // or a zip archive that may be one
  torch_export,   // .pt2
  torch_module,   // a whole model that torch.save pickled
  torch_weights,  // a state dict or a checkpoint of torch.save
  keras,          // .keras
  zip,            // of other content
  cut_zip,        // without its end
  pickle,         // of other content
  packed,         // gzip, bzip2, xz, zstd
  image,          // PNG, JPEG
  table,          // text with commas
  text,           // any other text
};

struct FileContent {
  FileKind kind = FileKind::unknown;
  std::string found;   // for people: "a Git LFS pointer in place of the file"
  std::string remedy;  // what to do, if it is the same for all uses of the file: "git lfs pull"
};

// Does not throw. Reads a few kilobytes, and the directory of a zip archive.
FileContent content_of(const std::filesystem::path& file);

// The command that makes a data file of such a file, or what else to do; empty if unknown.
std::string data_remedy(const FileContent& content, const std::filesystem::path& file);

}  // namespace harness

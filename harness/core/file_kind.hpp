#pragma once

#include <filesystem>
#include <string>

namespace harness {

// What a file is, whatever it is called: told by its first bytes and, of zip archives, by the names of their
// entries. Models and data files are refused with these words where they are something else.
enum class FileKind {
  unreadable,     // whoever opens it says why
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
  torch_script,   // or what may be it
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
  std::string remedy;  // where it is the same whoever asks: "git lfs pull"
};

// Throws no error of its own. Reads a few kilobytes, and the directory of a zip archive.
FileContent content_of(const std::filesystem::path& file);

// The command that makes a data file of such a file, or what else to do; empty where nothing is known.
std::string data_remedy(const FileContent& content, const std::filesystem::path& file);

}  // namespace harness

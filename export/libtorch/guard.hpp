// Reads a TorchScript file before libtorch does, and refuses what the exporter does not write.
#pragma once

#include <caffe2/serialize/inline_container.h>

#include <string>

namespace explainable {

// Checks the entries of the archive, the operators that its code calls, and the names in its pickles. Throws
// ArtifactError: the file could run code while it is loaded, repeat forever, or read and write files.
void check_torchscript(caffe2::serialize::PyTorchStreamReader& reader, const std::string& artifact);

// The end of each message about a file that may run code.
extern const char* const kTrustHint;

}  // namespace explainable

// The two errors of an explanation. Each message says what was got, what was expected and what to do.
#pragma once

#include <stdexcept>

namespace explainable {

// The artifact is missing, damaged, foreign, of a newer schema, or not for this runtime.
struct ArtifactError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The photo, the image or the class index is not what the artifact takes.
struct InputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace explainable

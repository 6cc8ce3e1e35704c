// Measures the time of an explanation.
#pragma once

#include <cstdint>

#include "explainer.hpp"

namespace explainable {

// Milliseconds per explanation: preprocessing is included, decoding is not.
struct Timing {
  int calls = 0;
  int callers = 1;
  double first = 0;  // the first call, which warms the runtime up
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double cpu = 0;               // processor time of the whole process, per call
  double calls_per_second = 0;  // of all callers together
};

// Explains a photo `calls` times, shared among `callers` threads that use one explainer.
Timing measure(const Explainer& explainer, const Picture& photo, std::int64_t class_idx, int calls, int callers);

}  // namespace explainable

// How long an explanation takes.
#pragma once

#include <cstdint>

#include "explainer.hpp"

namespace explainable {

// Milliseconds per explanation, preprocessing included and decoding not.
struct Timing {
  int calls = 0;
  int callers = 1;
  double first = 0;  // the call before all others, which warms the runtime up
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double cpu = 0;               // processor time of the whole process, per call
  double calls_per_second = 0;  // of all callers together
};

// Explain a photo `calls` times, shared among `callers` threads that use one explainer.
Timing bench(const Explainer& explainer, const Picture& photo, std::int64_t class_idx, int calls, int callers);

}  // namespace explainable

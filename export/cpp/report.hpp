// Answers as JSON and as text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench.hpp"
#include "explainer.hpp"

namespace explainable {

// The fields that `explainable-model explain --json` prints of a photo, the best explained class first.
nlohmann::json describe(const std::vector<Explanation>& explanations, const Metadata& metadata);
nlohmann::json describe(const std::vector<Detection>& detections, const Box& seen, const Metadata& metadata);
nlohmann::json describe(const Timing& timing);

// Prints what is known of one photo, as a line for people.
void print_answer(const nlohmann::json& answer);

// JSON on one line; bytes that are no UTF-8 are replaced.
std::string write_json(const nlohmann::json& record);

}  // namespace explainable

// The command line of the program `explain`.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace explainable {

extern const char* const kUsage;

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Report { text, json, jsonl };

struct Options {
  std::vector<std::string> photos;
  std::string artifact;
  std::optional<std::string> picture;  // the overlay of one photo
  std::optional<std::string> npy;      // the heatmap of one photo
  std::optional<std::string> dir;      // for the files of any number of photos
  bool heatmaps = false;
  bool skip_existing = false;
  bool overwrite = false;
  std::optional<std::string> rank;  // of the box to explain
  std::optional<std::string> wanted;  // the class: its number or name
  int threads = 0;
  bool trusted = false;
  int memory = 0;  // GiB that the program may take; 0 for half of the machine's
  bool bench = false;
  int calls = 100;
  int callers = 1;
  Report report = Report::text;
  bool help = false;
};

// Throws UsageError.
Options parse_options(const std::vector<std::string>& arguments);

}  // namespace explainable

// Which photos the program explains, and which files it writes for each.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace explainable {

struct Task {
  std::string photo;
  std::filesystem::path overlay;   // empty where none is written
  std::filesystem::path heatmap;   // empty where none is written

  // Whether every file of the task is there.
  bool is_done() const;
};

// The files in DIR, STEM-overlay.png and STEM-heatmap.npy, of the photos that the arguments name. The photos of a folder
// and its subfolders keep their tree in DIR. Photos of one name get a number. Without DIR, nothing is written. Throws
// InputError for a folder without a photo.
std::vector<Task> plan_tasks(const std::vector<std::string>& arguments, const std::string& dir, bool heatmaps);

// Makes a folder and those above it. Throws InputError.
void make_folder(const std::filesystem::path& folder);

}  // namespace explainable

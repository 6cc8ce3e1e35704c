#include "tasks.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <system_error>

#include "classes.hpp"
#include "errors.hpp"

namespace explainable {
namespace {

namespace fs = std::filesystem;

// Endings of the files that a folder's photos have. A photo of a kind that the kit does not read is refused by name.
const std::set<std::string> kEndings = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg",
                                        ".pgm",  ".png", ".ppm", ".tif", ".tiff", ".webp"};
constexpr const char* kKinds[] = {"panel", "overlay", "methods"};  // of the pictures that the Python program writes

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, fs::directory_options::skip_permission_denied, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    std::error_code unreadable;
    if (!kEndings.count(fold_case(entries->path().extension().string()))) continue;
    if (entries->is_regular_file(unreadable)) files.push_back(entries->path());
  }
  if (error) throw InputError("The folder " + folder.string() + " cannot be read: " + error.message() + ".");
  if (files.empty()) throw InputError("The folder " + folder.string() + " holds no photo.");
  std::sort(files.begin(), files.end());
  return files;
}

fs::path resolve(const fs::path& path) {
  std::error_code error;
  const fs::path resolved = fs::weakly_canonical(path, error);
  return error ? path : resolved;
}

// Gives each photo of a folder of pictures a stem of its own, under which no photo itself is overwritten.
class Stems {
 public:
  explicit Stems(const std::vector<fs::path>& photos) {
    for (const fs::path& photo : photos) originals_.insert(resolve(photo));
  }

  fs::path choose(const fs::path& photo, const fs::path& folder) {
    const std::string name = photo.stem().string();
    std::string stem = name;
    for (int number = 2; is_taken(stem, folder); ++number) stem = name + "-" + std::to_string(number);
    taken_[folder].insert(fold_case(stem));
    return folder / stem;
  }

 private:
  bool is_taken(const std::string& stem, const fs::path& folder) {
    if (taken_[folder].count(fold_case(stem))) return true;
    return std::any_of(std::begin(kKinds), std::end(kKinds), [&](const char* kind) {
      return originals_.count(resolve(folder / (stem + "-" + kind + ".png"))) > 0;
    });
  }

  std::set<fs::path> originals_;
  std::map<fs::path, std::set<std::string>> taken_;
};

fs::path append(fs::path path, const char* ending) { return path += ending; }

}  // namespace

bool Task::is_done() const {
  std::error_code error;
  const auto there = [&](const fs::path& file) { return file.empty() || fs::exists(file, error); };
  return there(overlay) && there(heatmap);
}

std::vector<Task> plan_tasks(const std::vector<std::string>& arguments, const std::string& dir, bool heatmaps) {
  std::vector<fs::path> photos, folders;
  for (const std::string& argument : arguments) {
    std::error_code error;
    const bool is_folder = fs::is_directory(argument, error);
    for (const fs::path& photo : is_folder ? list_folder(argument) : std::vector<fs::path>{argument}) {
      photos.push_back(photo);
      folders.push_back(is_folder ? fs::path(dir) / photo.lexically_relative(argument).parent_path() : fs::path(dir));
    }
  }
  Stems stems(photos);
  std::vector<Task> tasks;
  for (std::size_t n = 0; n < photos.size(); ++n) {
    tasks.push_back({photos[n].string(), {}, {}});
    if (dir.empty()) continue;
    const fs::path target = stems.choose(photos[n], folders[n]);
    tasks.back().overlay = append(target, "-overlay.png");
    if (heatmaps) tasks.back().heatmap = append(target, "-heatmap.npy");
  }
  return tasks;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder, error)) {
    throw InputError("The folder " + folder.string() + " cannot be made" + (error ? ": " + error.message() : "") + ".");
  }
}

}  // namespace explainable

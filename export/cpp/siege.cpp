// Opens many artifacts that may lie, and explains a photo with each: siege PHOTO ARTIFACT < FRAMES
//
// A frame is the length of a file, 8 bytes with the lowest first, and the file. Each is written to the path ARTIFACT. It
// must be explained or refused with an error of the library; any other end is a failure. Prints the counts as JSON.

#include <cstdint>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "explainer.hpp"
#include "overlay.hpp"

namespace {

using namespace explainable;

bool read_frame(std::vector<char>& content) {
  std::uint8_t size[8];
  if (!std::cin.read(reinterpret_cast<char*>(size), sizeof size)) return false;
  std::uint64_t bytes = 0;
  for (int n = 7; n >= 0; --n) bytes = bytes << 8 | size[n];
  content.resize(bytes);
  return static_cast<bool>(std::cin.read(content.data(), static_cast<std::streamsize>(bytes)));
}

void explain(const Picture& photo, const std::string& artifact) {
  const Explainer explainer(artifact, 1);
  for (const Explanation& each : explainer.explain_top(photo)) {
    draw_overlay(photo, each.heatmap, each.box, explainer.metadata().diverging);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: siege PHOTO ARTIFACT < FRAMES\n";
    return 2;
  }
  const Picture photo = read_picture(argv[1]);
  std::int64_t number = 0, answered = 0, refused = 0, failed = 0;
  for (std::vector<char> content; read_frame(content); ++number) {
    std::ofstream(argv[2], std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
    std::cerr << number << std::endl;  // the last number before a crash is the frame that caused it
    try {
      explain(photo, argv[2]);
      ++answered;
    } catch (const ArtifactError&) {
      ++refused;
    } catch (const InputError&) {
      ++refused;
    } catch (const std::exception& error) {
      ++failed;
      std::cerr << "failed: " << error.what() << std::endl;
    }
  }
  std::cout << nlohmann::json{{"answered", answered}, {"refused", refused}, {"failed", failed}} << "\n";
  return failed ? 1 : 0;
}

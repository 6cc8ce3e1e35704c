// sample ARTIFACT PHOTO OVERLAY.png
#include <explainable/explainer.hpp>
#include <explainable/overlay.hpp>
#include <iostream>

int main(int, char** argv) try {
  const explainable::Explainer explainer(argv[1]);
  const explainable::Picture photo = explainable::read_picture(argv[2]);
  const explainable::Explanation answer = explainer.explain(photo);
  std::cout << answer.class_name << " " << answer.probability.value_or(0) << "\n";
  const bool diverging = explainer.metadata().diverging;
  explainable::write_png(explainable::draw_overlay(photo, answer.heatmap, answer.box, diverging), argv[3]);
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}

// Checks for the tests: the parts of the library that the program `explain` does not show.
//
//   check image METADATA.json PHOTO OUT.npy    write the network's input for a photo
//   check classes METADATA.json WORDS.txt      print the class of each line of WORDS.txt, or why there is none
//   check damage PHOTO                         decode the photo truncated and changed at many places
//   check threads ARTIFACT PHOTO...            compare the answers of eight threads with those of one
//   check refusals ARTIFACT                    give images and classes that must be refused, then a good one

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "classes.hpp"
#include "explainer.hpp"
#include "npy.hpp"

namespace {

using namespace explainable;

constexpr int kThreads = 8;
constexpr int kRounds = 2;

void fail(const std::string& what) { throw std::runtime_error(what); }

Metadata read_record(const std::string& record) {
  std::ifstream file(record);
  return parse_metadata({std::istreambuf_iterator<char>(file), {}}, record);
}

void check_image(const std::string& record, const std::string& photo, const std::string& out) {
  const Image image = to_image(read_record(record).preprocess.value(), read_picture(photo));
  write_npy(out, image.shape, image.values);
}

void check_classes(const std::string& record, const std::string& words) {
  const Metadata metadata = read_record(record);
  std::ifstream file(words);
  for (std::string word; std::getline(file, word);) {
    try {
      std::cout << find_class(word, metadata) << "\n";
    } catch (const InputError& error) {
      std::cout << error.what() << "\n";
    }
  }
}

// A damaged file may be read or refused; no other error than InputError may come of it.
void check_damage(const std::string& photo) {
  std::ifstream file(photo, std::ios::binary);
  const std::vector<std::uint8_t> whole((std::istreambuf_iterator<char>(file)), {});
  const std::size_t step = std::max<std::size_t>(whole.size() / 400, 1);
  int read = 0, refused = 0;
  const auto decode = [&](const std::vector<std::uint8_t>& bytes) {
    try {
      decode_picture(bytes, photo);
      ++read;
    } catch (const InputError&) {
      ++refused;
    }
  };
  for (std::size_t at = 0; at < whole.size(); at += at < 700 ? 1 : step) {
    decode({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at)});
    std::vector<std::uint8_t> changed = whole;
    changed[at] = static_cast<std::uint8_t>(changed[at] + 1 + at * 151 % 255);
    decode(changed);
  }
  if (refused == 0) fail("not one of " + std::to_string(read) + " damaged files was refused");
  std::cout << refused << " refused, " << read << " read\n";
}

struct Question {
  Picture photo;
  std::int64_t class_idx;
};

bool are_equal(const Explanation& left, const Explanation& right) {
  return left.class_idx == right.class_idx && left.probabilities == right.probabilities &&
         left.heatmap.values == right.heatmap.values;
}

// Asks for the predicted, the first and the last class of every photo, so that successive answers differ.
void check_threads(const std::string& artifact, const std::vector<std::string>& photos) {
  const Explainer explainer(artifact, 1, /*trusted=*/true);
  std::vector<Question> questions;
  for (const std::string& photo : photos) {
    for (const std::int64_t class_idx : {kPredicted, std::int64_t{0}, explainer.metadata().classes - 1}) {
      questions.push_back({read_picture(photo), class_idx});
    }
  }
  for (int warm_up = 0; warm_up < 2; ++warm_up) explainer.explain(questions[0].photo);
  std::vector<Explanation> alone;
  for (const Question& question : questions) alone.push_back(explainer.explain(question.photo, question.class_idx));
  if (are_equal(alone.at(1), alone.at(2))) fail("the questions have one answer, so a mix-up would go unseen");

  std::mutex mutex;
  std::vector<std::string> wrong;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t n = 0; n < kRounds * questions.size(); ++n) {
        const std::size_t which = (n + static_cast<std::size_t>(thread)) % questions.size();
        std::string complaint;
        try {
          const Question& question = questions[which];
          const Explanation answer = explainer.explain(question.photo, question.class_idx);
          if (!are_equal(answer, alone[which])) complaint = "another answer";
        } catch (const std::exception& error) {
          complaint = error.what();
        }
        if (complaint.empty()) continue;
        const std::lock_guard lock(mutex);
        wrong.push_back("question " + std::to_string(which) + ": " + complaint);
      }
    });
  }
  threads.clear();
  if (!wrong.empty()) fail(std::to_string(wrong.size()) + " wrong answers, the first to " + wrong[0]);
  std::cout << kThreads * kRounds * questions.size() << " answers of " << kThreads << " threads are right\n";
}

Image make_zeros(std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return {std::move(shape), std::vector<float>(static_cast<std::size_t>(count))};
}

void expect_refusal(const Explainer& explainer, const Image& image, const std::vector<std::int64_t>& class_idx,
                    const std::string& part) {
  try {
    explainer.run(image, {{static_cast<std::int64_t>(class_idx.size())}, class_idx});
  } catch (const InputError& error) {
    if (std::string(error.what()).find(part) != std::string::npos) return;
    fail("the message is " + std::string(error.what()) + " where " + part + " was expected");
  }
  fail("nothing was refused where " + part + " was expected");
}

void check_refusals(const std::string& artifact) {
  const Explainer explainer(artifact, 1, /*trusted=*/true);
  std::vector<std::int64_t> shape = explainer.metadata().image_shape;
  shape[0] = 2;
  const Image good = make_zeros(shape);
  auto smaller = shape, flat = shape, empty = shape;
  smaller[3] -= 1;
  flat.erase(flat.begin());
  empty[0] = 0;
  Image short_one = good, infinite = good;
  short_one.values.pop_back();
  infinite.values[7] = std::numeric_limits<float>::infinity();
  const std::int64_t classes = explainer.metadata().classes;
  expect_refusal(explainer, make_zeros(smaller), {-1, -1}, "image has shape (2, ");
  expect_refusal(explainer, make_zeros(flat), {-1}, "image has shape (");
  expect_refusal(explainer, make_zeros(empty), {}, "expects (N, ");
  expect_refusal(explainer, short_one, {-1, -1}, "values; expected");
  expect_refusal(explainer, infinite, {-1, -1}, "NaN or infinite");
  expect_refusal(explainer, good, {-1}, "class_idx has shape (1) and 1 values; expected (2)");
  expect_refusal(explainer, good, {0, classes}, "is out of range");
  expect_refusal(explainer, good, {-2, 0}, "class -2 is out of range");
  const Outputs outputs = explainer.run(good, {{2}, {-1, 0}});
  if (outputs.class_idx.at(1) != 0 || outputs.cam_shape.at(0) != 2) fail("the call after the refusals went wrong");
  std::cout << "refused what does not fit\n";
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() == 4 && arguments[0] == "image") check_image(arguments[1], arguments[2], arguments[3]);
    else if (arguments.size() == 3 && arguments[0] == "classes") check_classes(arguments[1], arguments[2]);
    else if (arguments.size() > 2 && arguments[0] == "threads") {
      check_threads(arguments[1], {arguments.begin() + 2, arguments.end()});
    } else if (arguments.size() == 2 && arguments[0] == "refusals") check_refusals(arguments[1]);
    else if (arguments.size() == 2 && arguments[0] == "damage") check_damage(arguments[1]);
    else {
      fail("usage: check image METADATA PHOTO OUT | classes METADATA WORDS | damage PHOTO | threads ARTIFACT PHOTO... | "
           "refusals ARTIFACT");
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}

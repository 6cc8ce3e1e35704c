#include "guard_pickle.hpp"

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace explainable {
namespace {

// Walks through a pickle, and checks the names of its classes and functions, and the sizes of its entries of numbers.
class PickleCheck {
 public:
  // `size_of` gives the bytes of an entry of numbers by its key.
  PickleCheck(std::string_view content, std::function<std::size_t(const std::string&)> size_of)
      : rest_(content), size_of_(std::move(size_of)) {}

  void check() {
    for (std::size_t count = 1;; ++count) {
      const char code = take(1)[0];
      if (code == '.') break;
      check_instruction(code, count);
    }
    if (!rest_.empty()) throw Refusal("its list of weights does not end where it says");
  }

 private:
  void check_instruction(char code, std::size_t count) {
    switch (code) {
      case '\x80': take(1); return;
      case 'q': return remember(read_number(1), count);
      case 'r': return remember(read_number(4), count);
      case 'h': return push(memo_[read_number(1)]);
      case 'j': return push(memo_[read_number(4)]);
      case 'K': return push(std::to_string(read_number(1)));
      case 'M': return push(std::to_string(read_number(2)));
      case 'J': return push(std::to_string(static_cast<std::int32_t>(read_number(4))));
      case '\x8a': return push(std::to_string(read_number(std::min<std::size_t>(read_number(1), 8))));
      case 'X': return push(std::string(take(read_number(4))));
      case 'c': return push(read_name());
      case 'G': take(8); return end_row();
      case '(': row_.clear(); last_ = kOther; return;
      case 't': last_ = last_ == kAtom && row_.size() == 5 ? kRow : kOther; return;
      case 'Q': check_storage(); return end_row();
      default: break;
    }
    static const std::string_view bare("N\x88\x89]})\x85\x86\x87" "aesuR\x81" "b");
    if (bare.find(code) == std::string_view::npos) throw Refusal("its list of weights holds an unknown instruction");
    end_row();
  }

  // The five values before this instruction name an entry: "storage", its type, its key, its device, its length.
  void check_storage() const {
    static const std::map<std::string, std::size_t> bytes = {
        {"Float", 4}, {"Double", 8}, {"Half", 2}, {"BFloat16", 2}, {"Long", 8}, {"Int", 4},
        {"Short", 2}, {"Char", 1},   {"Byte", 1}, {"Bool", 1},     {"ComplexFloat", 8}};
    if (last_ != kRow || row_[0] != "storage" || row_[3] != "cpu" || !is_number(row_[2]) || !is_number(row_[4])) {
      throw Refusal("its list of weights names numbers in an unknown way");
    }
    constexpr std::string_view start = "torch ", end = "Storage";
    const std::string& type = row_[1];
    if (!starts_with(type, start) || !ends_with(type, end)) throw Refusal("its weights are of the type " + type);
    const auto found = bytes.find(type.substr(start.size(), type.size() - start.size() - end.size()));
    if (found == bytes.end()) throw Refusal("its weights are of the type " + type);
    const std::size_t size = size_of_(row_[2]);
    if (row_[4].size() > 18 || size != std::stoull(row_[4]) * found->second) {
      throw Refusal("the entry " + row_[2] + " of its weights has " + std::to_string(size) + " bytes and not " +
                    row_[4] + " numbers");
    }
  }

  std::string read_name() {
    const std::string module(take_line()), name(take_line());
    static const std::set<std::string> known = {
        "torch._utils _rebuild_tensor_v2",    "collections OrderedDict",
        "torch.jit._pickle restore_type_tag", "torch.jit._pickle build_intlist",
        "torch.jit._pickle build_doublelist", "torch.jit._pickle build_boollist",
        "torch.jit._pickle build_tensorlist"};
    const bool storage = module == "torch" && ends_with(name, "Storage");
    const bool own = starts_with(module, "__torch__.") && !starts_with(module, "__torch__.torch.classes");
    if (!storage && !own && !known.count(module + " " + name)) {
      throw Refusal("its list of weights names " + module + " " + name);
    }
    return module + " " + name;
  }

  void push(std::string value) {
    row_.push_back(std::move(value));
    last_ = kAtom;
  }

  void end_row() {
    row_.clear();
    last_ = kOther;
  }

  // Only texts, names and numbers are remembered; what else is named again counts as an unknown value.
  void remember(std::size_t number, std::size_t count) {
    if (number > count) throw Refusal("its list of weights has a number that would fill the memory");
    memo_[number] = last_ == kAtom ? row_.back() : std::string("another value");
  }

  std::size_t read_number(std::size_t bytes) {
    std::size_t number = 0;
    const std::string_view digits = take(bytes);
    for (std::size_t n = bytes; n-- > 0;) number = number << 8 | static_cast<unsigned char>(digits[n]);
    return number;
  }

  std::string_view take(std::size_t length) {
    if (length > rest_.size()) throw Refusal("its list of weights has no end");
    const std::string_view taken = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return taken;
  }

  std::string_view take_line() {
    const std::string_view line = take(std::min(rest_.find('\n'), rest_.size()));
    take(1);
    return line;
  }

  enum Last { kAtom, kRow, kOther };  // what the last instruction left

  std::string_view rest_;
  std::function<std::size_t(const std::string&)> size_of_;
  std::vector<std::string> row_;
  std::map<std::size_t, std::string> memo_;
  Last last_ = kOther;
};

}  // namespace

void walk_pickle(std::string_view content, const std::function<std::size_t(const std::string&)>& size_of) {
  PickleCheck(content, size_of).check();
}

}  // namespace explainable

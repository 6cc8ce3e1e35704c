#include "guard.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <sstream>
#include <string_view>

#include "errors.hpp"
#include "guard_pickle.hpp"
#include "operators.hpp"

namespace explainable {

const char* const kTrustHint =
    " A file like this could run code or read files. If you trust its maker, open it with --trusted, or with `true` as "
    "the third argument of Explainer; else do not open it.";

namespace {

constexpr std::size_t kMaxText = 64u << 20;
constexpr int kMaxDepth = 40;        // of brackets in one line, and of indented blocks
constexpr int kMaxMethodCalls = 4;   // the exporter writes two

// Replaces each text between quotes by "", so that no word in it is taken for code.
std::string remove_texts(const std::string& line) {
  std::string code;
  for (std::size_t n = 0; n < line.size(); ++n) {
    if (line[n] == '\'') throw Refusal("its code has a text in single quotes");
    if (line[n] != '"') {
      code += line[n];
      continue;
    }
    for (++n; n < line.size() && line[n] != '"'; ++n) {
      if (line[n] == '\\' && ++n == line.size()) break;
    }
    if (n >= line.size()) throw Refusal("its code has a text that does not end");
    code += "\"\"";
  }
  return code;
}

bool is_operator(const std::string& name) {
  if (kOperators.count(name) || kScriptOperators.count(name)) return true;
  return name.size() > 1 && name.back() == '_' && kInPlaceOperators.count(name.substr(0, name.size() - 1));
}

// Reads the code line by line. It holds classes of modules, and methods of assignments; each call is of an operator.
class CodeCheck {
 public:
  void check(const std::string& text) {
    if (text.find('\0') != std::string::npos || text.find('\r') != std::string::npos) {
      throw Refusal("its code is no text");
    }
    own_lists_.clear();
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) check_line(remove_texts(line));
  }

 private:
  void check_line(const std::string& code) {
    if (code.find_first_of("#;@\\") != std::string::npos) throw Refusal("its code has a comment or a decorator");
    const std::size_t indented = std::min(code.find_first_not_of(' '), code.size());
    if (indented > 2u * kMaxDepth) throw Refusal("its code is nested too deep");
    const std::string line = code.substr(indented);
    remember_list(line);
    if (starts_with(line, "def ")) return check_definition(line);
    if (starts_with(line, "class ")) {
      if (!ends_with(line, "(Module):")) throw Refusal("its code has a class that is no module");
      return;
    }
    if (starts_with(line, "for ")) return check_loop(line);
    check_words(line);
    check_calls(line);
  }

  // A list that the module itself holds; a loop over it ends.
  void remember_list(const std::string& line) {
    const std::size_t equals = line.find(" = ");
    if (equals == std::string::npos) return;
    const std::string name = line.substr(0, equals);
    if (!assigned_.insert(name).second) own_lists_.erase(name);
    else if (starts_with(line.substr(equals + 3), "self.image_shape")) own_lists_.insert(name);
  }

  void check_definition(const std::string& line) {
    assigned_.clear();
    own_lists_.clear();
    for (const char* method : {"forward", "ready", "__code_getter"}) {
      if (starts_with(line, std::string("def ") + method + "(self")) return;
    }
    throw Refusal("its code has the method " + line.substr(4, line.find('(') - 4));
  }

  void check_loop(const std::string& line) {
    constexpr std::string_view start = "for i in range(torch.len(", end = ")):";
    if (starts_with(line, start) && ends_with(line, end)) {
      if (own_lists_.count(line.substr(start.size(), line.size() - start.size() - end.size()))) return;
    }
    throw Refusal("its code repeats: " + line);
  }

  static void check_words(const std::string& line) {
    static const std::set<std::string> unknown = {"while", "for",  "lambda", "import", "with",  "try",   "del",
                                                  "yield", "from", "global", "assert", "raise", "async", "fork"};
    std::string word;
    for (std::size_t n = 0; n <= line.size(); ++n) {
      if (n < line.size() && is_name_character(line[n])) {
        word += line[n];
        continue;
      }
      if (unknown.count(word)) throw Refusal("its code has the word " + word);
      word.clear();
    }
  }

  // Every name before a bracket is one of an operator, of a type or of a method.
  void check_calls(const std::string& line) {
    int depth = 0;
    for (std::size_t n = 0; n < line.size(); ++n) {
      if (std::strchr("([{", line[n]) && ++depth > kMaxDepth) throw Refusal("its code is nested too deep");
      if (std::strchr(")]}", line[n])) --depth;
      if (line[n] != '(' || n == 0 || !is_name_character(line[n - 1])) {
        if (line[n] == '(' && n > 0 && std::strchr(")]", line[n - 1])) throw Refusal("its code calls a value");
        continue;
      }
      std::size_t start = n;
      while (start > 0 && (is_name_character(line[start - 1]) || line[start - 1] == '.')) --start;
      check_call(line.substr(start, n - start), start > 0 ? line[start - 1] : ' ');
    }
  }

  void check_call(const std::string& name, char before) {
    static const std::set<std::string> plain = {"annotate", "unchecked_cast", "uninitialized", "getattr",
                                                "int",      "float",          "bool",          "range"};
    if (before == ')') {  // (self).ready(...): a method of a module
      if ((name == ".forward" || name == ".ready") && ++method_calls_ <= kMaxMethodCalls) return;
    } else if (plain.count(name)) {
      return;
    } else if (starts_with(name, "torch.") && is_operator(name.substr(6))) {
      return;
    } else if (starts_with(name, "ops.aten.") && is_operator(name.substr(9))) {
      return;
    } else if (starts_with(name, "ops.prim.") && kPrimOperators.count(name.substr(9))) {
      return;
    }
    throw Refusal("its code calls " + name + ", which is not among the operators that it may call");
  }

  std::set<std::string> assigned_, own_lists_;
  int method_calls_ = 0;
};

std::string read_text(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name) {
  if (reader.getRecordSize(name) > kMaxText) throw Refusal("its entry " + name + " is too large");
  const auto [data, size] = reader.getRecord(name);
  return {static_cast<const char*>(data.get()), size};
}

// Pickles of weights and constants, and of the lines that messages of errors name.
void check_pickle(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name) {
  const bool weights = name == "data.pkl" || name == "constants.pkl";
  if (!weights && !(starts_with(name, "code/__torch__/") && ends_with(name, ".py.debug_pkl"))) {
    throw Refusal("it has the entry " + name);
  }
  const std::string folder = name.substr(0, name.find('.')) + "/", content = read_text(reader, name);
  walk_pickle(content, [&](const std::string& key) {
    const std::string entry = folder + key;
    if (!weights || !reader.hasRecord(entry)) throw Refusal("the entry " + key + " of its weights is missing");
    return reader.getRecordSize(entry);
  });
}

void check_entry(caffe2::serialize::PyTorchStreamReader& reader, const std::string& name, CodeCheck& code) {
  static const std::set<std::string> plain = {"version",   ".data/version",   "byteorder",
                                              "extra/explainable_model.json", ".data/serialization_id",
                                              ".format_version",              ".storage_alignment"};
  if (plain.count(name)) return;
  for (const std::string_view folder : {"data/", "constants/"}) {
    if (starts_with(name, folder) && is_number(std::string_view(name).substr(folder.size()))) return;
  }
  if (ends_with(name, "pkl")) return check_pickle(reader, name);
  if (starts_with(name, "code/__torch__/") && ends_with(name, ".py")) return code.check(read_text(reader, name));
  throw Refusal("it has the entry " + name);
}

}  // namespace

void check_torchscript(caffe2::serialize::PyTorchStreamReader& reader, const std::string& artifact) {
  try {
    CodeCheck code;
    std::set<std::string> names;
    for (const std::string& name : reader.getAllRecords()) {
      if (!names.insert(name).second) throw Refusal("two of its entries have the name " + name);
      check_entry(reader, name, code);
    }
  } catch (const Refusal& refusal) {
    throw ArtifactError(artifact + " cannot be shown to be harmless: " + refusal.what() + "." + kTrustHint);
  }
}

}  // namespace explainable

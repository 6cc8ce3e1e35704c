#include "checksum.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "errors.hpp"

namespace explainable {
namespace {

constexpr std::string_view kKey = "\"checksum\": \"";
constexpr std::string_view kAlgorithm = "sha256:";
constexpr std::size_t kDigits = 64;

class Hash {
 public:
  Hash() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (!context_ || !EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr)) fail();
  }

  void add(std::string_view bytes) {
    if (!EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())) fail();
  }

  std::string finish() {
    std::array<unsigned char, kDigits / 2> bytes{};
    if (!EVP_DigestFinal_ex(context_.get(), bytes.data(), nullptr)) fail();
    std::string text;
    for (const unsigned char byte : bytes) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }

 private:
  [[noreturn]] static void fail() { throw ArtifactError("OpenSSL cannot compute a SHA-256 on this machine."); }

  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

std::ifstream open(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ArtifactError(path.string() + " cannot be read.");
  return file;
}

// The checksum in the record, with its algorithm; empty where there is none, as in artifacts of earlier versions.
std::string find_recorded(std::string_view content) {
  for (auto at = content.find(kKey); at != content.npos; at = content.find(kKey, at + 1)) {
    const std::string_view text = content.substr(at + kKey.size(), kAlgorithm.size() + kDigits);
    const std::string_view digits = text.substr(std::min(kAlgorithm.size(), text.size()));
    const bool hexadecimal = digits.find_first_not_of("0123456789abcdef") == digits.npos;
    if (text.substr(0, kAlgorithm.size()) == kAlgorithm && digits.size() == kDigits && hexadecimal) {
      return std::string(text);
    }
  }
  return {};
}

}  // namespace

void check_halves(const std::filesystem::path& artifact) {
  auto weights = artifact;
  weights += ".data";
  if (!std::filesystem::is_regular_file(weights)) return;
  std::ifstream graph = open(artifact);
  std::string content(std::istreambuf_iterator<char>(graph), {});
  const std::string recorded = find_recorded(content);
  if (recorded.empty()) return;
  const std::string unwritten = std::string(kAlgorithm) + std::string(kDigits, '0');  // as it was hashed at the export
  for (auto at = content.find(recorded); at != content.npos; at = content.find(recorded, at + recorded.size())) {
    content.replace(at, recorded.size(), unwritten);
  }
  Hash hash;
  hash.add(content);
  std::ifstream data = open(weights);
  std::vector<char> block(1 << 20);
  while (data.read(block.data(), static_cast<std::streamsize>(block.size())), data.gcount() > 0) {
    hash.add({block.data(), static_cast<std::size_t>(data.gcount())});
  }
  const std::string found = std::string(kAlgorithm) + hash.finish();
  if (found == recorded) return;
  throw ArtifactError(artifact.filename().string() + ", or " + weights.filename().string() +
                      " beside it, is damaged, or was changed after the export: the checksum is " + found +
                      ", recorded is " + recorded + ". Export it again.");
}

}  // namespace explainable

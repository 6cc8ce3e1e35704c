#include "npy.hpp"

#include <bit>
#include <cstring>
#include <string>

#include "output.hpp"

namespace explainable {

void write_npy(const std::filesystem::path& path, const std::vector<std::int64_t>& shape,
               const std::vector<float>& values) {
  static_assert(std::endian::native == std::endian::little, "the header below declares little-endian values");
  std::string sizes;
  for (const std::int64_t size : shape) sizes += std::to_string(size) + ",";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + sizes + "), }";
  const std::size_t unpadded = 10 + header.size() + 1;  // with the magic, the length and the final line feed
  header += std::string((64 - unpadded % 64) % 64, ' ') + '\n';
  const std::string magic = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(header.size() & 0xFF),
                             static_cast<char>(header.size() >> 8)};
  std::vector<std::uint8_t> content(magic.begin(), magic.end());
  content.insert(content.end(), header.begin(), header.end());
  const std::size_t start = content.size();
  content.resize(start + values.size() * sizeof(float));
  if (!values.empty()) std::memcpy(content.data() + start, values.data(), values.size() * sizeof(float));
  write_file(path, content);
}

}  // namespace explainable

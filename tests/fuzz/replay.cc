// Gives every file below the folders it is told of (or the files themselves) to
// a fuzzing target, in the order of their names. The last name printed is that
// of the file that ended it. A folder that is not there is an empty one: git
// keeps none.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

std::vector<std::string> FilesBelow(const char* path) {
  if (std::filesystem::is_regular_file(path)) return {path};
  std::vector<std::string> files;
  if (!std::filesystem::is_directory(path)) return files;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void Replay(const std::string& path) {
  std::fprintf(stderr, "%s\n", path.c_str());
  std::ifstream in(path, std::ios::binary);
  // A vector, so that the sanitizers see each byte too many.
  std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
  bytes.shrink_to_fit();
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()),
                         bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& path : FilesBelow(argv[i])) {
      Replay(path);
      ++files;
    }
  }
  std::printf("%zu files replayed\n", files);
  return 0;
}

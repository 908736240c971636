// A folder of a test's own, gone at its end.

#ifndef BGFS_TESTS_DRIVERS_QCOW2_TEMP_FOLDER_H_
#define BGFS_TESTS_DRIVERS_QCOW2_TEMP_FOLDER_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {

class TempFolder {
 public:
  TempFolder() : path_(testing::TempDir() + "/bgfs-qcow2-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

inline std::vector<uint8_t> LoadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void StoreFile(const std::string& path,
                      const std::vector<uint8_t>& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) std::abort();
}

}  // namespace bgfs::qcow2

#endif  // BGFS_TESTS_DRIVERS_QCOW2_TEMP_FOLDER_H_

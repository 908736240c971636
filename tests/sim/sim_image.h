// SimImage: the bytes of a file, in blocks of 4 KiB as a file system allocates
// them. A block is a hole, unwritten (allocated, reads as zeros, a hole to
// SEEK_DATA) or written. SimChange is one change of an image, as a value that
// can be kept, torn and applied to another image.

#ifndef BGFS_TESTS_SIM_SIM_IMAGE_H_
#define BGFS_TESTS_SIM_SIM_IMAGE_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace bgfs {

struct SimChange {
  enum class Kind : uint8_t {
    kWrite,     // data at offset
    kPunch,     // frees blocks
    kZero,      // makes blocks unwritten
    kAllocate,  // allocates blocks, unwritten
    kResize,    // to `bytes`
  };
  Kind kind = Kind::kWrite;
  int64_t offset = 0;
  int64_t bytes = 0;
  bool keep_size = false;  // do not grow the file
  std::string data = {};

  // A disk does it sector by sector, in any order; the others are one step in a
  // journal.
  bool Tears() const {
    return kind != Kind::kAllocate && kind != Kind::kResize;
  }
  // The part of it in [offset + from, offset + from + length).
  SimChange Part(int64_t from, int64_t length) const;
};

class SimImage {
 public:
  static constexpr int64_t kSector = 512;
  static constexpr int64_t kBlock = 4096;

  int64_t size() const { return size_; }
  int64_t allocated_bytes() const {
    return static_cast<int64_t>(blocks_.size()) * kBlock;
  }
  // How much `change` would allocate.
  int64_t MissingBytes(const SimChange& change) const;

  void Apply(const SimChange& change);
  // Zeros where nothing is, also past the end.
  std::string Read(int64_t offset, int64_t bytes) const;
  // lseek(2): nothing at or past the end, nor where no data follows.
  std::optional<int64_t> NextData(int64_t offset) const;
  std::optional<int64_t> NextHole(int64_t offset) const;

 private:
  struct Block {
    bool written = false;
    std::array<char, kBlock> data{};
  };

  void Write(const SimChange& change);
  void Clear(int64_t offset, int64_t bytes);
  void Allocate(int64_t offset, int64_t bytes);
  bool Written(int64_t index) const;

  int64_t size_ = 0;
  std::map<int64_t, Block> blocks_;  // by offset / kBlock
};

}  // namespace bgfs

#endif  // BGFS_TESTS_SIM_SIM_IMAGE_H_

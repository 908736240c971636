#include "tests/drivers/qcow2/compare.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "tests/drivers/qcow2/open_chain.h"
#include "tests/drivers/test_graph.h"

namespace bgfs::qcow2 {
namespace {

// A file mapped for reading.
class MappedFile {
 public:
  MappedFile(const std::string& path, int64_t bytes) : bytes_(bytes) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) std::abort();
    data_ = static_cast<char*>(data);
  }
  ~MappedFile() { munmap(data_, bytes_); }
  const char* data() const { return data_; }

 private:
  const int64_t bytes_;
  char* data_;
};

class Comparison {
 public:
  Comparison(uint64_t seed, const Chain& chain, OpenChain& opened)
      : random_(seed),
        size_(chain.size_bytes),
        expected_(chain.expected, chain.size_bytes),
        opened_(opened),
        buffer_(size_t{4} << 20) {}

  void ReadInOrder(int64_t first, int64_t step, int64_t until);
  void ReadAnywhere(int reads);
  void ReadAtOnce();
  void CompareStatus();
  void CompareWithMap(const std::string& map);

 private:
  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }
  bool Check(int64_t offset, int64_t bytes, const char* got);
  bool ReadAndCheck(int64_t offset, int64_t bytes);

  std::mt19937_64 random_;
  const int64_t size_;
  const MappedFile expected_;
  OpenChain& opened_;
  std::vector<char> buffer_;
};

bool Comparison::Check(int64_t offset, int64_t bytes, const char* got) {
  const char* want = expected_.data() + offset;
  if (std::memcmp(want, got, bytes) == 0) return true;
  const int64_t at = std::mismatch(want, want + bytes, got).first - want;
  ADD_FAILURE() << "reading " << bytes << " bytes at " << offset
                << ": wrong from " << offset + at << " on";
  return false;
}

bool Comparison::ReadAndCheck(int64_t offset, int64_t bytes) {
  std::memset(buffer_.data(), 0xee, bytes);
  const int error = opened_.Read(offset, bytes, buffer_.data());
  EXPECT_EQ(error, 0) << "reading " << bytes << " bytes at " << offset;
  return error == 0 && Check(offset, bytes, buffer_.data());
}

void Comparison::ReadInOrder(int64_t first, int64_t step, int64_t until) {
  until = std::min(until, size_);
  for (int64_t at = std::min(first, size_); at < until; at += step) {
    if (!ReadAndCheck(at, std::min(step, size_ - at))) return;
  }
}

void Comparison::ReadAnywhere(int reads) {
  for (int i = 0; i < reads; ++i) {
    int64_t offset = Below(size_);
    if (Below(2) == 0) offset = offset / 512 * 512;
    const int64_t most = std::min<int64_t>(size_ - offset, 1 + Below(1 << 19));
    if (!ReadAndCheck(offset, 1 + Below(most))) return;
  }
}

void Comparison::ReadAtOnce() {
  constexpr int64_t kEach = 65536;
  std::vector<OpenChain::Part> parts;
  for (int i = 0; i < 48; ++i) {
    const int64_t offset = Below(size_);
    const int64_t bytes = 1 + Below(std::min(kEach, size_ - offset));
    parts.push_back({offset, bytes, buffer_.data() + i * kEach});
  }
  ASSERT_EQ(opened_.ReadAtOnce(parts), 0);
  for (const OpenChain::Part& part : parts) {
    if (!Check(part.offset, part.bytes, part.to)) return;
  }
}

void Comparison::CompareStatus() {
  for (int64_t at = 0; at < size_;) {
    int error = 0;
    const BlockStatus status = opened_.Status(at, size_ - at, &error);
    ASSERT_EQ(error, 0);
    ASSERT_GT(status.bytes, 0);
    ASSERT_LE(status.bytes, size_ - at);
    const bool ends = at + status.bytes == size_;
    EXPECT_EQ((status.flags & BlockStatus::kEof) != 0, ends) << at;
    if ((status.flags & BlockStatus::kZero) != 0) {
      const char* data = expected_.data() + at;
      ASSERT_TRUE(data[0] == 0 &&
                  std::memcmp(data, data + 1, status.bytes - 1) == 0)
          << "said to be zeros: " << status.bytes << " bytes at " << at;
    }
    at += status.bytes;
  }
}

// The number after `key` in a line of `qemu-img map --output=json`; -1 if the
// key is not there.
int64_t Field(absl::string_view line, const std::string& key) {
  const std::vector<absl::string_view> parts =
      absl::StrSplit(line, absl::StrCat("\"", key, "\": "));
  if (parts.size() < 2) return -1;
  const std::vector<absl::string_view> value =
      absl::StrSplit(parts[1], absl::ByAnyChar(",}"));
  int64_t number = -1;
  return absl::SimpleAtoi(value[0], &number) ? number : -1;
}

void Comparison::CompareWithMap(const std::string& map) {
  for (absl::string_view line : absl::StrSplit(map, '\n')) {
    const int64_t start = Field(line, "start");
    const int64_t end = std::min(size_, start + Field(line, "length"));
    const int64_t offset = Field(line, "offset");
    const int64_t depth = Field(line, "depth");
    if (start < 0) continue;
    for (int64_t at = start; at < end;) {
      int error = 0;
      const BlockStatus status = opened_.Status(at, end - at, &error);
      ASSERT_EQ(error, 0);
      const bool allocated = (status.flags & BlockStatus::kAllocated) != 0;
      const bool raw = (status.flags & BlockStatus::kRaw) != 0;
      if (depth > 0) {
        ASSERT_FALSE(allocated) << line << " at " << at;
      } else if (offset >= 0 && absl::StrContains(line, "\"data\": true")) {
        ASSERT_TRUE(allocated && raw) << line << " at " << at;
        ASSERT_EQ(status.file_offset, offset + (at - start)) << line;
      }
      at += status.bytes;
    }
  }
}

}  // namespace

void CompareChainOfSeed(uint64_t seed) {
  const TempFolder folder;
  absl::StatusOr<Chain> chain = MakeChain(folder.path(), seed);
  ASSERT_TRUE(chain.ok()) << "seed " << seed << ": " << chain.status();
  SCOPED_TRACE(chain->description);
  // Some with hardly any room for tables.
  absl::StatusOr<std::unique_ptr<OpenChain>> opened =
      OpenChain::Open(chain->top, seed % 3 == 0 ? 8192 : int64_t{32} << 20);
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_EQ((*opened)->size(), chain->size_bytes);
  absl::StatusOr<std::string> map =
      RunCommand("qemu-img map --output=json " + chain->top);
  ASSERT_TRUE(map.ok()) << map.status();

  Comparison comparison(seed, *chain, **opened);
  comparison.ReadInOrder(0, 1 << 20, chain->size_bytes);
  comparison.ReadInOrder(7, 77777, int64_t{4} << 20);
  comparison.ReadInOrder(0, 4096, int64_t{1} << 20);
  comparison.ReadInOrder(511, 512, int64_t{128} << 10);
  comparison.ReadAnywhere(200);
  for (int i = 0; i < 4; ++i) comparison.ReadAtOnce();
  comparison.CompareStatus();
  comparison.CompareWithMap(*map);
  EXPECT_TRUE((*opened)->reports().empty()) << (*opened)->reports()[0];
}

}  // namespace bgfs::qcow2

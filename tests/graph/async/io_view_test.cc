// IoView against a plain string: a view and the string it stands for are cut,
// filled and compared alike.

#include "graph/async/io_view.h"

#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace bgfs {
namespace {

// A string in pieces of seeded sizes (some empty), and the view over them.
class Scattered {
 public:
  Scattered(std::mt19937_64* random, int max_pieces) {
    const int count = static_cast<int>((*random)() % (max_pieces + 1));
    for (int i = 0; i < count; ++i) {
      std::string piece((*random)() % 40, '\0');
      for (char& c : piece) c = static_cast<char>((*random)());
      pieces_.push_back(std::move(piece));
    }
    for (std::string& piece : pieces_) {
      iovecs_.push_back({piece.data(), piece.size()});
    }
  }

  IoView view() const { return IoView(iovecs_); }
  std::string Text() const {
    return std::accumulate(pieces_.begin(), pieces_.end(), std::string());
  }

 private:
  std::vector<std::string> pieces_;
  std::vector<iovec> iovecs_;
};

std::string TextOf(const IoView& view) {
  std::string text(static_cast<size_t>(view.size()), '?');
  view.CopyTo(text.data());
  return text;
}

std::string TextOfPieces(const IoView& view) {
  IovecList list;
  view.AppendTo(&list);
  std::string text;
  for (const iovec& piece : list) {
    EXPECT_GT(piece.iov_len, 0);
    text.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  }
  return text;
}

class IoViewSeeded : public testing::TestWithParam<int> {
 protected:
  std::mt19937_64 random_{static_cast<uint64_t>(GetParam())};
};
INSTANTIATE_TEST_SUITE_P(Seeds, IoViewSeeded, testing::Range(0, 20));

TEST_P(IoViewSeeded, SlicesLikeAString) {
  for (int round = 0; round < 200; ++round) {
    const Scattered whole(&random_, 6);
    IoView view = whole.view();
    std::string text = whole.Text();
    for (int depth = 0; depth < 5; ++depth) {
      ASSERT_EQ(TextOf(view), text);
      ASSERT_EQ(TextOfPieces(view), text);
      const size_t offset = random_() % (text.size() + 1);
      const size_t bytes = random_() % (text.size() - offset + 1);
      view =
          view.Slice(static_cast<int64_t>(offset), static_cast<int64_t>(bytes));
      text = text.substr(offset, bytes);
      ASSERT_EQ(view.size(), static_cast<int64_t>(text.size()));
    }
  }
}

TEST_P(IoViewSeeded, FillsOnlyItsPart) {
  for (int round = 0; round < 200; ++round) {
    const Scattered whole(&random_, 6);
    std::string text = whole.Text();
    const size_t offset = random_() % (text.size() + 1);
    const size_t bytes = random_() % (text.size() - offset + 1);
    const IoView part = whole.view().Slice(static_cast<int64_t>(offset),
                                           static_cast<int64_t>(bytes));
    const bool zero = random_() % 2 == 0;
    std::string fill(bytes, '\0');
    if (zero) {
      part.Zero();
    } else {
      for (char& c : fill) c = static_cast<char>(random_());
      part.CopyFrom(fill.data());
    }
    text.replace(offset, bytes, fill);
    ASSERT_EQ(whole.Text(), text);
    ASSERT_EQ(TextOf(part), fill);
    ASSERT_EQ(part.AllZero(), fill.find_first_not_of('\0') == fill.npos);
  }
}

TEST(IoView, FindsTheOneByteThatIsNotZero) {
  for (size_t at = 0; at < 30; ++at) {
    std::string first(7, '\0');
    std::string second(23, '\0');
    (at < 7 ? first[at] : second[at - 7]) = 1;
    const iovec pieces[] = {{first.data(), 7}, {second.data(), 23}};
    const IoView view{absl::MakeConstSpan(pieces)};
    EXPECT_FALSE(view.AllZero());
    const auto here = static_cast<int64_t>(at);
    EXPECT_TRUE(view.Slice(0, here).AllZero());
    EXPECT_TRUE(view.Slice(here + 1, 29 - here).AllZero());
  }
}

TEST(IoView, KnowsItsAlignment) {
  alignas(1024) static char memory[4096];
  EXPECT_TRUE(IoView(memory, 1024).AlignedTo(512));
  EXPECT_FALSE(IoView(memory, 1000).AlignedTo(512));
  EXPECT_FALSE(IoView(memory + 8, 512).AlignedTo(512));
  EXPECT_TRUE(IoView(memory + 8, 512).AlignedTo(8));
  const iovec pieces[] = {{memory, 512}, {memory + 1024, 1024}};
  const IoView view{absl::MakeConstSpan(pieces)};
  EXPECT_TRUE(view.AlignedTo(512));
  EXPECT_FALSE(view.AlignedTo(1024));
  EXPECT_TRUE(view.Slice(512, 1024).AlignedTo(1024));
  EXPECT_FALSE(view.Slice(1, 1024).AlignedTo(512));
}

TEST(IoView, AnEmptyListOfPiecesIsNeverLookedAt) {
  const auto none = std::make_unique<iovec[]>(0);
  const IoView view{absl::MakeConstSpan(none.get(), 0)};
  EXPECT_EQ(view.size(), 0);
  EXPECT_EQ(view.Slice(0, 0).size(), 0);
  EXPECT_TRUE(view.AllZero());
  EXPECT_TRUE(view.AlignedTo(4096));
}

TEST(IoViewDeathTest, ASliceOutsideIsABug) {
  char byte = 0;
  const IoView view(&byte, 1);
  EXPECT_DEATH((void)view.Slice(0, 2), "bug at .*io_view.cc");
  EXPECT_DEATH((void)view.Slice(-1, 1), "bug at .*io_view.cc");
  EXPECT_DEATH((void)view.Slice(1, INT64_MAX), "bug at .*io_view.cc");
}

}  // namespace
}  // namespace bgfs

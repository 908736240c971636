#include "drivers/qcow2/types.h"

#include <concepts>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace bgfs::qcow2 {
namespace {

template <typename A, typename B>
concept Subtractable = requires(A a, B b) { a - b; };
template <typename A, typename B>
concept Comparable = requires(A a, B b) { a < b; };
template <typename A>
concept IsGuests = requires(Geometry g, A a) { g.InCluster(a); };

// What must not compile, does not.
static_assert(!std::convertible_to<GuestOffset, HostOffset>);
static_assert(!std::constructible_from<HostOffset, GuestOffset>);
static_assert(!std::convertible_to<int64_t, GuestOffset>);
static_assert(!std::convertible_to<GuestOffset, int64_t>);
static_assert(!std::constructible_from<GuestCluster, GuestOffset>);
static_assert(!std::constructible_from<L2Index, L1Index>);
static_assert(!Subtractable<GuestOffset, HostOffset>);
static_assert(!Comparable<GuestOffset, HostOffset>);
static_assert(!IsGuests<HostOffset>);
static_assert(!Comparable<GuestCluster, HostCluster>);
static_assert(!std::constructible_from<HostCluster, GuestCluster>);
// And what must, does.
static_assert(Subtractable<GuestOffset, GuestOffset>);
static_assert(Comparable<HostOffset, HostOffset>);
static_assert(IsGuests<GuestOffset>);

TEST(Geometry, CutsAnOffsetIntoIndices) {
  constexpr Geometry kGeometry(16);  // 8192 entries a table
  const GuestOffset offset((int64_t{5} * 8192 + 17) * 65536 + 1234);
  const GuestCluster cluster = kGeometry.ClusterOf(offset);
  EXPECT_EQ(kGeometry.L1IndexOf(cluster), L1Index(5));
  EXPECT_EQ(kGeometry.L2IndexOf(cluster), L2Index(17));
  EXPECT_EQ(kGeometry.InCluster(offset), 1234);
  EXPECT_EQ(kGeometry.StartOf(cluster), GuestOffset(offset.value() - 1234));
  EXPECT_EQ(kGeometry.bytes_per_l2_table(), int64_t{512} << 20);
}

TEST(Geometry, L1EntriesRoundUpWithoutOverflow) {
  for (int bits = 9; bits <= 21; ++bits) {
    const Geometry geometry(bits);
    const int64_t table = geometry.bytes_per_l2_table();
    EXPECT_EQ(geometry.L1EntriesFor(0), 0);
    EXPECT_EQ(geometry.L1EntriesFor(1), 1);
    EXPECT_EQ(geometry.L1EntriesFor(table), 1);
    EXPECT_EQ(geometry.L1EntriesFor(table + 1), 2);
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    EXPECT_EQ(geometry.L1EntriesFor(kMax), kMax / table + 1);
  }
}

}  // namespace
}  // namespace bgfs::qcow2

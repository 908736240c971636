// What mount(8) says, in words of bgfs mount.

#include "config/cli/helper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bgfs::cli {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string>;

Words Mount(const Words& arguments) {
  const auto call = ParseMountCall(arguments);
  return call.ok() ? call->arguments
                   : Words{std::string(call.status().message())};
}

TEST(MountCall, WithoutOptions) {
  EXPECT_THAT(Mount({"a.img", "/mnt"}), ElementsAre("--", "a.img", "/mnt"));
  EXPECT_THAT(Mount({"a.img", "/mnt", "-o", "rw"}),
              ElementsAre("-o", "rw", "--", "a.img", "/mnt"));
}

TEST(MountCall, KeepsWhatBgfsKnowsOfMountOptions) {
  EXPECT_THAT(
      Mount({"a", "b", "-o", "ro,uid=3,gid=4,mode=640,allow_other"}),
      ElementsAre("-o", "ro,uid=3,gid=4,mode=640,allow_other", "--", "a", "b"));
  EXPECT_THAT(Mount({"a", "b", "-r"}), ElementsAre("-o", "ro", "--", "a", "b"));
}

TEST(MountCall, MakesOptionsOfBgfs) {
  EXPECT_THAT(Mount({"a", "b", "-o",
                     "format=raw,resizable,force_share,allow-implicit=/x,"
                     "transport=dev,log=/l,pid_file=/p_q,passthrough"}),
              ElementsAre("--format=raw", "--resizable", "--force-share",
                          "--allow-implicit=/x", "--transport=dev", "--log=/l",
                          "--pid-file=/p_q", "--passthrough", "--", "a", "b"));
}

TEST(MountCall, LeavesOutWhatIsForOthers) {
  EXPECT_THAT(Mount({"a", "b", "-o",
                     "defaults,noauto,nofail,_netdev,user,user=me,users,owner,"
                     "nosuid,nodev,noexec,noatime,x-systemd.automount,X-mount."
                     "mkdir,comment=hello,,relatime"}),
              ElementsAre("--", "a", "b"));
}

// bgfs mount says what it is that it cannot use.
TEST(MountCall, PassesOnWhatNobodyKnowsUnlessSloppy) {
  EXPECT_THAT(Mount({"a", "b", "-o", "frob=1,sync"}),
              ElementsAre("-o", "frob=1,sync", "--", "a", "b"));
  EXPECT_THAT(Mount({"a", "b", "-s", "-o", "frob=1,ro"}),
              ElementsAre("-o", "ro", "--", "a", "b"));
}

TEST(MountCall, KeepsCommasInQuotes) {
  EXPECT_THAT(Mount({"a", "b", "-o", "allow_implicit=\"/x,y\",ro"}),
              ElementsAre("--allow-implicit=/x,y", "-o", "ro", "--", "a", "b"));
}

TEST(MountCall, Letters) {
  const auto call =
      ParseMountCall({"a", "b", "-fnv", "-oro", "-t", "fuse.bgfs"});
  ASSERT_TRUE(call.ok());
  EXPECT_TRUE(call->fake);
  EXPECT_TRUE(call->no_utab);
  EXPECT_THAT(call->arguments, ElementsAre("-o", "ro", "--", "a", "b"));
  EXPECT_FALSE(ParseMountCall({"a", "b"})->fake);
  EXPECT_FALSE(ParseMountCall({"a", "b"})->no_utab);
}

TEST(MountCall, WrongUsage) {
  for (const Words& words :
       {Words{}, {"a"}, {"a", "b", "c"}, {"a", "b", "-o"}, {"a", "b", "-q"}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseMountCall(words).status()));
  }
}

TEST(UmountCall, Letters) {
  const auto plain = ParseUmountCall({"/mnt", "-v", "-n"});
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->path, "/mnt");
  EXPECT_FALSE(plain->force || plain->lazy);
  EXPECT_TRUE(ParseUmountCall({"/mnt", "-f"})->force);
  EXPECT_TRUE(ParseUmountCall({"/mnt", "-l"})->lazy);
  EXPECT_FALSE(ParseUmountCall({"/mnt", "-x"}).ok());
  EXPECT_FALSE(ParseUmountCall({}).ok());
}

TEST(HelperOf, TheNameAlone) {
  EXPECT_EQ(HelperOf("/sbin/mount.fuse.bgfs"), Helper::kMount);
  EXPECT_EQ(HelperOf("mount.bgfs"), Helper::kMount);
  EXPECT_EQ(HelperOf("/sbin/umount.fuse.bgfs"), Helper::kUmount);
  EXPECT_EQ(HelperOf("/umount.fuse.bgfs/bgfs"), Helper::kNone);
  EXPECT_EQ(HelperOf(""), Helper::kNone);
}

}  // namespace
}  // namespace bgfs::cli

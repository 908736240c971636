#include "drivers/implicit.h"

#include <unistd.h>

#include <filesystem>

#include "drivers/probe.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/drivers/test_graph.h"

namespace bgfs {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// "FORMAT:FILENAME", or the error.
std::string Parse(absl::string_view name) {
  const auto image = ParseImageName(name);
  if (!image.ok()) return std::string(image.status().message());
  return absl::StrCat(image->format, ":", image->filename);
}

TEST(ParseImageNameTest, TakesPaths) {
  EXPECT_EQ(Parse("base.img"), ":base.img");
  EXPECT_EQ(Parse("/a/b:c.img"), ":/a/b:c.img");
  EXPECT_EQ(Parse("./b:c.img"), ":./b:c.img");
  EXPECT_EQ(Parse("file:base.img"), ":base.img");
  EXPECT_EQ(Parse("file:b:c.img"), ":b:c.img");
}

TEST(ParseImageNameTest, TakesDriverAndFileFromJson) {
  EXPECT_EQ(Parse(R"(json:{"driver":"qcow2","file":{"driver":"file",)"
                  R"("filename":"b.q"}})"),
            "qcow2:b.q");
  EXPECT_EQ(Parse(R"(json:{"driver": "raw", "file.filename": "b.q"})"),
            "raw:b.q");
  EXPECT_EQ(Parse(R"(json:{"file.driver": "host_device", )"
                  R"("file.filename": "/dev/x", "driver": "raw"})"),
            "raw:/dev/x");
  EXPECT_EQ(Parse(R"(json:{"file": {"filename": "b:q"}})"), ":b:q");
  EXPECT_EQ(Parse(R"(json:{"filename": "b\u0020q"})"), ":b q");
  EXPECT_EQ(Parse(R"(json:{"driver": "file", "filename": "b"})"), "raw:b");
}

TEST(ParseImageNameTest, RefusesByName) {
  EXPECT_THAT(Parse("nbd:localhost:10809"), HasSubstr("protocol \"nbd\""));
  EXPECT_THAT(Parse("http://host/x"), HasSubstr("protocol \"http\""));
  EXPECT_THAT(Parse("rbd:pool/x"), HasSubstr("protocol \"rbd\""));
  EXPECT_THAT(Parse(R"(json:{"driver":"nbd","host":"x"})"),
              HasSubstr("driver \"nbd\""));
  EXPECT_THAT(Parse(R"(json:{"driver":"raw","file":{"driver":"ssh"}})"),
              HasSubstr("driver \"ssh\""));
  EXPECT_THAT(Parse(R"(json:{"driver":"raw","file":{"driver":"qcow2"}})"),
              HasSubstr("driver \"qcow2\""));
  EXPECT_THAT(
      Parse(R"(json:{"driver":"qcow2","file.filename":"x","backing":"y"})"),
      HasSubstr("key \"backing\" is not understood"));
  EXPECT_THAT(Parse(R"(json:{"driver":"raw","file":"node0"})"),
              HasSubstr("key \"file\" is not understood"));
  EXPECT_THAT(Parse(R"(json:{"driver":"raw","offset":5})"),
              HasSubstr("key \"offset\""));
  EXPECT_THAT(Parse(R"(json:{"file":{"filename":"x"},"file.filename":"y"})"),
              HasSubstr("key \"file.filename\" is there twice"));
}

TEST(ParseImageNameTest, RefusesNonsense) {
  for (const absl::string_view name :
       {absl::string_view(""), absl::string_view("file:"),
        absl::string_view("a\0b", 3), absl::string_view("json:{}"),
        absl::string_view(R"(json:{"file.filename":"a\u0000b"})")}) {
    EXPECT_THAT(Parse(name), HasSubstr("no file name")) << name;
  }
  for (const absl::string_view name :
       {"json:", "json:x", "json:[]", "json:{\"driver\"", "json:{} {}"}) {
    EXPECT_THAT(Parse(name), HasSubstr("not valid JSON")) << name;
  }
  EXPECT_THAT(Parse("json:" + std::string(1000, '[')),
              HasSubstr("not valid JSON"));
  std::string deep = "json:";
  for (int i = 0; i < 200; ++i) deep += "{\"a\":";
  EXPECT_THAT(Parse(deep), HasSubstr("not valid JSON"));
}

TEST(ParseImageFormatTest, KnowsRawAndQcow2) {
  EXPECT_EQ(*ParseImageFormat("raw"), "raw");
  EXPECT_EQ(*ParseImageFormat("qcow2"), "qcow2");
  EXPECT_EQ(*ParseImageFormat("host_device"), "raw");
  EXPECT_THAT(ParseImageFormat("vmdk").status().message(),
              HasSubstr("format \"vmdk\""));
}

TEST(LocateImplicitTest, IsRelativeToTheHolder) {
  EXPECT_EQ(LocateImplicit("/a/top", "base"), "/a/base");
  EXPECT_EQ(LocateImplicit("/top", "base"), "//base");
  EXPECT_EQ(LocateImplicit("top", "b/base"), "./b/base");
  EXPECT_EQ(LocateImplicit("/a/top", "/base"), "/base");
}

class CheckImplicitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(folder_ / "vm");
    std::filesystem::create_directory(folder_ / "vm/sub");
    std::filesystem::create_directory(folder_ / "vm2");
    for (const char* name :
         {"vm/top", "vm/base", "vm/sub/deep", "vm2/other", "secret"}) {
      folder_.Write(name, name);
    }
    std::filesystem::create_symlink("../secret", folder_ / "vm/link");
    std::filesystem::create_symlink("base", folder_ / "vm/alias");
  }
  std::string Check(const std::string& path) {
    const auto checked = CheckImplicit(context_, folder_ / "vm/top", path);
    return checked.ok() ? *checked : std::string(checked.status().message());
  }

  TempFolder folder_;
  OpenContext context_;
};

TEST_F(CheckImplicitTest, StaysInTheFolder) {
  EXPECT_EQ(Check(folder_ / "vm/base"), folder_ / "vm/base");
  EXPECT_EQ(Check(folder_ / "vm/../vm/alias"), folder_ / "vm/base");
  for (const char* outside :
       {"secret", "vm/../secret", "vm/link", "vm2/other", "vm/sub/deep"}) {
    EXPECT_THAT(Check(folder_ / outside),
                AllOf(HasSubstr("outside the folder"),
                      HasSubstr("allow it with --allow-implicit=/"),
                      HasSubstr("(allow_implicit: \"/")))
        << outside;
  }
  EXPECT_THAT(Check(folder_ / "vm/link"),
              HasSubstr(absl::StrCat("\"", folder_ / "secret", "\" is")));
  EXPECT_THAT(Check(folder_ / "vm/none"), HasSubstr("No such file"));
}

TEST_F(CheckImplicitTest, GoesWhereItIsAllowed) {
  context_.allow_implicit = {folder_ / "none", folder_ / "vm/"};
  EXPECT_EQ(Check(folder_ / "vm/sub/deep"), folder_ / "vm/sub/deep");
  EXPECT_THAT(Check(folder_ / "vm2/other"), HasSubstr("outside"));
  context_.allow_implicit = {"/"};
  EXPECT_EQ(Check(folder_ / "vm/link"), folder_ / "secret");
}

TEST_F(CheckImplicitTest, FollowsThePolicy) {
  context_.implicit_files = proto::ImplicitFiles::ANY;
  EXPECT_EQ(Check(folder_ / "vm/link"), folder_ / "vm/link");
  context_.implicit_files = proto::ImplicitFiles::DENY;
  EXPECT_THAT(Check(folder_ / "vm/base"), HasSubstr("implicit_files: DENY"));
}

TEST(ProbeTest, TakesAMagicAndNothingElse) {
  EXPECT_EQ(*ProbeFormat("QFI\xfb\0\0\0\3"), "qcow2");
  EXPECT_EQ(*ProbeFormat(""), "");
  EXPECT_EQ(*ProbeFormat("QFI"), "");
  EXPECT_EQ(*ProbeFormat(std::string(512, '\0')), "");
  EXPECT_THAT(ProbeFormat("KDMV").status().message(), HasSubstr("vmdk"));
  EXPECT_THAT(
      ProbeFormat(std::string(64, '<') + "\x7f\x10\xda\xbe").status().message(),
      HasSubstr("vdi"));
  EXPECT_THAT(ProbeFormat("vhdxfile").status().message(), HasSubstr("vhdx"));
  EXPECT_THAT(ProbeFormat("LUKS\xba\xbe").status().message(),
              HasSubstr("luks"));
}

TEST(ProbeTest, KnowsWhatQemuMakes) {
  TempFolder folder;
  for (const char* format : {"vmdk", "vdi", "vhdx", "vpc", "qed"}) {
    const std::string path = folder / format;
    ASSERT_EQ(std::system(absl::StrCat("qemu-img create -q -f ", format, " ",
                                       path, " 1M")
                              .c_str()),
              0);
    EXPECT_FALSE(ProbeFormat(ReadHostFile(path).substr(0, 512)).ok()) << format;
  }
}

TEST(ProbeTest, SaysWhatToDoAboutAFile) {
  TempFolder folder;
  TestGraph graph;
  const auto probe = [&graph](const std::string& path) {
    const auto format = BlockOn(graph.loop(), ProbeFile(graph.loop(), path));
    return format.ok() ? *format : std::string(format.status().message());
  };
  EXPECT_EQ(probe(folder.Write("a", "QFI\xfbxx")), "qcow2");
  EXPECT_THAT(probe(folder.Write("b", "guest")), HasSubstr("--format=raw"));
  EXPECT_THAT(probe(folder.Write("c", "vhdxfile")),
              AllOf(HasSubstr(folder / "c"), HasSubstr("qemu-img convert")));
  EXPECT_THAT(probe(folder / "none"), HasSubstr("No such file"));
}

}  // namespace
}  // namespace bgfs

#include "tests/config/check_text.h"

#include <algorithm>
#include <map>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "config/load.h"
#include "config/plan.h"
#include "config/validate.h"
#include "gtest/gtest.h"

namespace bgfs::config {
namespace {

int Lines(const std::string& text) {
  return 1 + static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

void CheckMistake(const Diagnostic& mistake, const std::string& text) {
  EXPECT_GE(mistake.at.line, 1);
  EXPECT_LE(mistake.at.line, Lines(text));
  EXPECT_GE(mistake.at.column, 1);
  EXPECT_LE(mistake.at.column, static_cast<int>(text.size()) + 1);
  EXPECT_FALSE(mistake.message.empty());
  EXPECT_EQ(mistake.message, Printable(mistake.message, 100000));
}

std::vector<std::string> ChildrenOf(const proto::Node& node) {
  std::vector<std::string> names;
  if (node.has_raw()) names.push_back(node.raw().file_node());
  if (node.has_throttle()) names.push_back(node.throttle().file_node());
  if (node.has_copy_on_read()) {
    names.push_back(node.copy_on_read().file_node());
  }
  if (node.has_blkdebug()) names.push_back(node.blkdebug().file_node());
  if (node.has_qcow2()) {
    names.push_back(node.qcow2().file_node());
    if (node.qcow2().has_backing()) names.push_back(node.qcow2().backing());
  }
  return names;
}

// Each step names nodes of its part that earlier steps opened, and no node is
// opened twice.
void CheckSteps(const Plan& plan) {
  std::map<std::string, int> part_of;
  for (const Step& step : plan.steps) {
    if (const auto* open = std::get_if<OpenNode>(&step)) {
      for (const std::string& child : ChildrenOf(open->node)) {
        ASSERT_EQ(part_of.count(child), 1u) << child;
        EXPECT_EQ(part_of[child], open->part);
      }
      EXPECT_TRUE(open->node.has_read_only());
      EXPECT_LT(open->part, plan.parts);
      EXPECT_TRUE(part_of.emplace(open->node.node_name(), open->part).second);
    } else {
      const auto& add = std::get<AddExport>(step);
      ASSERT_EQ(part_of.count(add.item.node()), 1u) << add.item.node();
      EXPECT_EQ(part_of[add.item.node()], add.part);
    }
  }
}

}  // namespace

bool CheckText(const std::string& text) {
  const Source source = LoadText(text, "c", "/folder");
  const std::vector<Diagnostic> mistakes = Validate(source);
  EXPECT_TRUE(source.parsed || !mistakes.empty());
  for (const Diagnostic& mistake : mistakes) CheckMistake(mistake, text);
  if (!mistakes.empty()) return true;
  int next = 1;
  CheckSteps(MakePlan(source, [&] { return absl::StrCat("#block", next++); }));
  return false;
}

std::vector<std::string> Mistakes(absl::string_view text) {
  const Source source = LoadText(text, "c", "/folder");
  std::vector<std::string> lines;
  for (const Diagnostic& mistake : Validate(source)) {
    lines.push_back(Format(source.file, mistake));
  }
  return lines;
}

}  // namespace bgfs::config

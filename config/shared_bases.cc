#include "config/shared_bases.h"

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/diagnostic.h"

namespace bgfs::config {
namespace {

using FileId = std::pair<uint64_t, uint64_t>;

// A node that its header's names stand below.
struct Overlay {
  OpenNode* step;
  std::vector<FileId> bases;

  bool shares() const { return step->node.qcow2().share_base(); }
};

class Joiner {
 public:
  Joiner(FindFiles find, Plan* plan) : find_(find), plan_(plan) {
    for (Step& step : plan->steps) {
      auto* open = std::get_if<OpenNode>(&step);
      if (open != nullptr) nodes_[open->node.node_name()] = open;
    }
    for (int i = 0; i < plan->parts; ++i) joined_.push_back(i);
  }

  absl::Status Run() {
    std::vector<OpenNode*> images;
    for (Step& step : plan_->steps) {
      auto* open = std::get_if<OpenNode>(&step);
      if (open != nullptr && open->node.has_qcow2() &&
          !open->node.qcow2().has_backing()) {
        images.push_back(open);
      }
    }
    if (images.empty()) return absl::OkStatus();
    FindWritten();
    for (OpenNode* image : images) {
      if (absl::Status s = Look(image); !s.ok()) return s;
    }
    Join();
    CountCopies();
    Renumber();
    return absl::OkStatus();
  }

 private:
  static const std::string* FileNode(const proto::Node& node) {
    if (node.has_raw()) return &node.raw().file_node();
    if (node.has_qcow2()) return &node.qcow2().file_node();
    if (node.has_throttle()) return &node.throttle().file_node();
    if (node.has_copy_on_read()) return &node.copy_on_read().file_node();
    if (node.has_blkdebug()) return &node.blkdebug().file_node();
    return nullptr;
  }

  void FindWritten() {
    for (const auto& [name, step] : nodes_) {
      if (!step->node.has_file() || step->node.read_only()) continue;
      const auto files = find_(std::vector<proto::Node>{step->node});
      if (!files.ok()) continue;
      for (const NamedFile& file : *files) {
        written_[{file.device, file.inode}] = step;
      }
    }
  }

  absl::Status Look(OpenNode* open) {
    std::vector<proto::Node> nodes = {open->node};
    for (const std::string* below = FileNode(open->node); below != nullptr;
         below = FileNode(nodes.back())) {
      nodes.push_back(nodes_.at(*below)->node);
    }
    std::reverse(nodes.begin(), nodes.end());
    const auto files = find_(nodes);
    if (!files.ok()) return absl::OkStatus();
    Overlay overlay{open, {}};
    for (const NamedFile& file : *files) {
      const FileId id(file.device, file.inode);
      const auto writer = written_.find(id);
      if (writer != written_.end() && !open->node.force_share()) {
        return absl::FailedPreconditionError(absl::StrCat(
            Describe(open), " rests on ", Quote(file.name),
            ", which must not change, but ", Describe(writer->second),
            " is opened for writing to it; make that one read_only, or take "
            "one of them out"));
      }
      overlay.bases.push_back(id);
    }
    overlays_.push_back(std::move(overlay));
    return absl::OkStatus();
  }

  // By the nearest name that somebody has given.
  std::string Describe(const OpenNode* step) const {
    std::string name = step->node.node_name();
    bool found = true;
    while (absl::StartsWith(name, "#") && found) {
      found = false;
      for (const auto& [above, user] : nodes_) {
        const std::string* file = FileNode(user->node);
        if ((file != nullptr && *file == name) ||
            (user->node.has_qcow2() && user->node.qcow2().backing() == name)) {
          name = above;
          found = true;
          break;
        }
      }
    }
    return absl::StrCat("node ", Quote(name));
  }

  int Root(int part) const {
    while (joined_[part] != part) part = joined_[part];
    return part;
  }

  void Join() {
    std::map<FileId, int> part_of;
    for (const Overlay& overlay : overlays_) {
      if (!overlay.shares()) continue;
      for (const FileId& base : overlay.bases) {
        const int mine = Root(overlay.step->part);
        const int other =
            Root(part_of.try_emplace(base, overlay.step->part).first->second);
        joined_[std::max(mine, other)] = std::min(mine, other);
      }
    }
  }

  // Those that share a base have it open once.
  void CountCopies() {
    std::map<FileId, int> own;
    std::map<FileId, int> shared;
    for (const Overlay& overlay : overlays_) {
      for (const FileId& base : overlay.bases) {
        if (overlay.shares()) {
          shared[base] = 1;
        } else {
          ++own[base];
        }
      }
    }
    for (const Overlay& overlay : overlays_) {
      for (const FileId& base : overlay.bases) {
        overlay.step->named_copies =
            std::max(overlay.step->named_copies, own[base] + shared[base]);
      }
    }
  }

  void Renumber() {
    std::vector<int> number(joined_.size(), -1);
    plan_->parts = 0;
    for (size_t i = 0; i < joined_.size(); ++i) {
      const int part = static_cast<int>(i);
      if (Root(part) == part) number[i] = plan_->parts++;
    }
    for (Step& step : plan_->steps) {
      std::visit([&](auto& item) { item.part = number[Root(item.part)]; },
                 step);
    }
  }

  const FindFiles find_;
  Plan* const plan_;
  std::map<std::string, OpenNode*> nodes_;  // by name
  std::map<FileId, const OpenNode*> written_;
  std::vector<Overlay> overlays_;
  std::vector<int> joined_;  // a part it has been joined to, or itself
};

}  // namespace

absl::Status JoinSharedBases(FindFiles find, Plan* plan) {
  if (plan->parts < 2) return absl::OkStatus();
  return Joiner(find, plan).Run();
}

}  // namespace bgfs::config

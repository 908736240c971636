// Changes of a configuration, as the verbs of bgfs make them: what comes out is
// validated and applied like any other. Each names nodes and exports as the
// configuration does, finds nodes that are written inline too, and leaves the
// message as it was where it fails; the error is one line.
#ifndef BGFS_CONFIG_EDIT_H_
#define BGFS_CONFIG_EDIT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "proto/bgfs.pb.h"

namespace bgfs::config {

// The error names the place.
absl::Status ParseNode(absl::string_view text, proto::Node* node);
absl::Status ParseExport(absl::string_view text, proto::Export* item);

// Relative file names, also of nodes inline, begin in `folder` from now on.
void ResolveFiles(const std::string& folder, proto::Node* node);

absl::Status AddNode(const proto::Node& node, proto::Config* config);
// Of Config.nodes; nobody may name it.
absl::Status RemoveNode(absl::string_view name, proto::Config* config);
// `settings` has what is to be different; a message in it is merged into the
// one that is there.
absl::Status ReopenNode(absl::string_view name, const proto::Node& settings,
                        proto::Config* config);
// Whoever stands on `name` stands on `by`, which is not made.
absl::Status ReplaceNode(absl::string_view name, absl::string_view by,
                         proto::Config* config);
// Whoever stands on `over`, exports too, stands on `filter`, and that on
// `over`. The filter's driver has a file_node, which need not be given.
absl::Status InsertNode(proto::Node filter, absl::string_view over,
                        proto::Config* config);
// Whoever stands on the filter stands on its file.
absl::Status DropNode(absl::string_view name, proto::Config* config);

absl::Status AddExport(const proto::Export& item, proto::Config* config);
absl::Status RemoveExport(absl::string_view id, proto::Config* config);

}  // namespace bgfs::config

#endif  // BGFS_CONFIG_EDIT_H_

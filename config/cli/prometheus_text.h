// Statistics in Prometheus's text exposition format, version 0.0.4.

#ifndef BGFS_CONFIG_CLI_PROMETHEUS_TEXT_H_
#define BGFS_CONFIG_CLI_PROMETHEUS_TEXT_H_

#include <string>
#include <vector>

#include "proto/control.pb.h"

namespace bgfs::cli {

// Of several daemons, each series has the label `pid`, since they may have
// exports and nodes of the same names.
std::string PrometheusText(const std::vector<control::StatsReply>& replies);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_PROMETHEUS_TEXT_H_

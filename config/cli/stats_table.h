// The tables of `bgfs stats`: what exports and nodes have done, for people.

#ifndef BGFS_CONFIG_CLI_STATS_TABLE_H_
#define BGFS_CONFIG_CLI_STATS_TABLE_H_

#include <cstdint>
#include <string>

#include "proto/control.pb.h"

namespace bgfs::cli {

// Since the beginning, or since `before`, an earlier reply of the same daemon.
std::string StatsTables(const control::StatsReply& now,
                        const control::StatsReply* before);

// "0", "840ns", "84.0us", "1.24ms", "14.1s"
std::string Duration(int64_t ns);

}  // namespace bgfs::cli

#endif  // BGFS_CONFIG_CLI_STATS_TABLE_H_

// LevelDB's own files, looked at before LevelDB opens them: so that a crash never makes a log that
// can't be opened, and damage never one that silently holds less.
//
// LevelDB alone does both. It refuses a log whose last record a crash left torn in place; and where
// damage makes a record seem to reach beyond the end of its file, it takes that for the end and
// drops what follows. It does not miss a log file that is gone.
//
// Here the rule is: in the newest log and in the MANIFEST, what is behind the last whole record may
// be anything, if nothing in it is whole; it is cut off (nobody was told that it is there: records
// are written one at a time and synced before they count). Everything else is damage, and refused.
// A cut MANIFEST is as good as the one before the record: LevelDB removes files only when their
// successors are in a synced MANIFEST, and that they all are there is checked.
//
// Logs that hold anything are written anew, whole part only, before LevelDB reads them. What a
// process that was killed had not synced, or could not, is in the page cache alone; it counts from
// now on, and must be durable before a newer log is.
//
// What can't be told from a crash: damage in the last record of the newest log, a truncation of the
// newest log, and its loss as long as an older one is still needed. And what a crash leaves on a
// disk that makes later bytes of a file durable before earlier ones can't be told from damage.
#pragma once

#include <leveldb/env.h>

#include <string>

#include "libpgraft/base/status.h"

namespace pgraft::storage {

// The caller holds the directory's LOCK. kCorruption names file and fault.
Status check_files(leveldb::Env* env, const std::string& directory);

}  // namespace pgraft::storage

// What a store's records must satisfy before a node starts from them. Repairs nothing.
//
// Every record is read once and none is kept. LevelDB checks its checksums over all that it reads,
// fast; our own, which are there for what those can't see (a value under another's key), are
// checked here of everything but the committed entries: those are the bulk of a long log, and
// whoever reads one checks it. The last entry is checked whatever it is, since elections are
// decided by its term.
#pragma once

#include <leveldb/db.h>

#include <string>

#include "libpgraft/storage/log_bounds.h"

namespace pgraft::storage {

struct CheckedLog {
  LogBounds bounds;
  bool blank = true;  // nothing but the format record, or not even that
};

// kCorruption names the record and what to do; kIo.
Result<CheckedLog> check_log(leveldb::DB* db);

// Appended to every refusal: an older copy would forget votes and acknowledged entries, so a new
// incarnation is the only safe way (rule 10).
extern const char kWhatToDo[];

}  // namespace pgraft::storage

// What a store's directory must satisfy before a node starts from it. Reads every record once,
// keeps none; repairs nothing.
#pragma once

#include <leveldb/db.h>

#include <string>

#include "libpgraft/storage/log_bounds.h"

namespace pgraft::storage {

struct CheckedLog {
  LogBounds bounds;
  bool blank = true;  // nothing but the format record, or not even that
};

// kCorruption names the record and what to do.
Result<CheckedLog> check_log(leveldb::DB* db);

// Appended to every refusal: an older copy would forget votes and acknowledged entries, so a new
// incarnation is the only safe way (rule 10).
extern const char kWhatToDo[];

}  // namespace pgraft::storage

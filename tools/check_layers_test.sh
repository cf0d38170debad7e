#!/bin/sh
# The include check finds what it is there for: each forbidden include planted in a copy is reported.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy/libpgraft/raft" "$copy/libpgraft/storage" "$copy/extension"

refused() { # FILE LINE: the check must fail on it
  printf '%s\n' "$2" >"$copy/$1"
  if python3 "$here/check_layers.py" "$copy" >/dev/null 2>&1; then
    echo "not refused in $1: $2" >&2
    exit 1
  fi
  rm "$copy/$1"
}

refused libpgraft/raft/a.cc '#include "libpgraft/state/state_machine.h"'
refused libpgraft/raft/a.h '#include <thread>'
refused libpgraft/raft/a.cc '#include <asio.hpp>'
refused libpgraft/raft/a.cc '#  include <leveldb/db.h>'
refused libpgraft/storage/a.cc '#include "libpgraft/node/node.h"'
refused libpgraft/storage/a.cc '#include "postgres.h"'
refused extension/a.c '#include "libpgraft/base/status.h"'
refused extension/a.cc '#include "postgres.h"'

printf '%s\n' '#include "libpgraft/base/status.h"' '#include <vector>' >"$copy/libpgraft/raft/a.h"
python3 "$here/check_layers.py" "$copy" >/dev/null || {
  echo "a legal include was refused" >&2
  exit 1
}

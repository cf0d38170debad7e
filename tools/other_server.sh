#!/bin/sh
# Builds this tree and tests it on real servers of a PostgreSQL version that this Debian release has not: in a chroot of the release that has it.
#
#   tools/other_server.sh MAJOR [PYTEST ARGUMENT...]
#
# The chroot (about 1.5 GB) is kept for the next time, in PGRAFT_CHROOTS, by default ~/.cache/pgraft. Needs root. Exit status 75: the release could not be had from its mirror, nothing was tested.
set -eu

fail() { # STATUS MESSAGE
  printf 'other_server: %s\n' "$2" >&2
  exit "$1"
}

[ $# -ge 1 ] || fail 2 "usage: tools/other_server.sh MAJOR [PYTEST ARGUMENT...]"
major=$1
shift
case $major in
17) suite=trixie ;;
18) suite=sid ;;
*) fail 2 "no Debian release is known for PostgreSQL $major: 17 or 18" ;;
esac
[ "$(id -u)" -eq 0 ] || fail 2 "a chroot needs root"

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
mirror=${PGRAFT_DEBIAN_MIRROR:-http://deb.debian.org/debian}
chroots=${PGRAFT_CHROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/pgraft}
root=$chroots/$suite
log=$chroots/$suite.log
# What is built there, beside what is built for this machine.
built=$tree/build/servers/$major
mkdir -p "$chroots" "$built/build" "$built/venv" "$built/tox" "$tree/.venv" "$tree/.tox"

# One at a time: the chroot is shared by all trees of this user.
exec 9>"$root.lock"
flock 9

# All that runs in the chroot, and what is mounted there, ends with this shell.
inside() { # [NAME=VALUE...] COMMAND...: in the chroot, the tree at /src, with build directories of its own
  mkdir -p "$root/src" "$root/var/pgraft"
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount --pid --fork --kill-child sh -euc '
    root=$1 tree=$2 built=$3
    shift 3
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount --bind "$tree" "$root/src"
    mount --bind "$built/build" "$root/src/build"
    mount --bind "$built/venv" "$root/src/.venv"
    mount --bind "$built/tox" "$root/src/.tox"
    exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      CCACHE_DIR=/var/pgraft/ccache CCACHE_NOHASHDIR=1 CI="${CI:-}" PGRAFT_WERROR="${PGRAFT_WERROR:-}" PGRAFT_RUN_MARK="${PGRAFT_RUN_MARK:-}" \
      PGRAFT_NO_APT=1 PGRAFT_BUILD_TESTS=OFF "$@"' - "$root" "$tree" "$built" "$@"
}

packages="g++ cmake ninja-build ccache libasio-dev libcereal-dev libleveldb-dev libsnappy-dev libkrb5-dev libssl-dev python3-dev python3-venv procps postgresql-$major"

bootstrap() {
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror"
}

# This machine's way to the network, and whom it trusts there.
share_network_settings() {
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
  done
  find /etc/apt/apt.conf.d -type f -exec grep -qE '^ *Acquire::' {} \; -exec cp -t "$root/etc/apt/apt.conf.d" {} +
}

# The server's development package depends on a whole LLVM, for which there is no use here: its headers alone.
install_packages() {
  # shellcheck disable=SC2016,SC2086 # expanded by the inner shell; a list of names
  inside sh -euc '
    major=$1
    shift
    apt-get -q update
    apt-get -y -q install --no-install-recommends postgresql-common
    sed -i "s/^#* *create_main_cluster *=.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf
    apt-get -y -q install --no-install-recommends "$@"
    cd /var/pgraft
    apt-get -q download "postgresql-server-dev-$major"
    dpkg-deb -x postgresql-server-dev-*.deb /
    apt-get clean' - "$major" $packages
}

if [ "$(cat "$root/.ready" 2>/dev/null)" != "$packages" ]; then
  echo "making a chroot of Debian $suite, for PostgreSQL $major" >&2
  { bootstrap && share_network_settings && install_packages; } >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    fail 75 "could not make a chroot of $suite from $mirror; all of it: $log"
  }
  echo "$packages" >"$root/.ready"
fi

inside PG_CONFIG="/usr/lib/postgresql/$major/bin/pg_config" sh -c 'cd /src && exec ./dev test "$@"' - "$@"

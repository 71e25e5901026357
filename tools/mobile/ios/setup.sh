#!/usr/bin/env bash
# Installs Debian trixie's Swift (package swiftlang) into a folder of its own, for check.py and tests/mobile/test_ios.py.
#
#   sudo tools/mobile/ios/setup.sh        1 to 3 minutes and 2.6 GB, once; it goes on where it was cut off
#
# The folder is ${XDG_CACHE_HOME:-~/.cache}/edge-deit/swift; delete it to undo everything. It needs Debian or
# Ubuntu, root and Debian's package server. debootstrap is installed with apt where it is missing. Every mount
# is made in a private mount namespace, so none is left behind, however the script ends.
set -euo pipefail

readonly SUITE=trixie MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian} NEEDED_MB=4500
readonly CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/edge-deit/swift
readonly ROOT=$CACHE/root READY=$CACHE/ready

fail() {
  echo "setup.sh: $1" >&2
  exit 2
}

# apt waits up to ten minutes for another apt to finish; swiftlang's own version is the stamp.
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"; }
inside() { DEBIAN_FRONTEND=noninteractive chroot "$ROOT" "$@"; }

require_host() {
  [ "$(uname -s)" = Linux ] || fail "this is for Linux; on a Mac use Xcode's own swift"
  [ "$(id -u)" = 0 ] || fail "chroot needs root: sudo tools/mobile/ios/setup.sh"
  command -v unshare >/dev/null || fail "unshare is missing: apt-get install util-linux"
}

require_space() {
  local free_mb
  free_mb=$(df --output=avail -m "$CACHE" | tail -1 | tr -d ' ')
  [ "$free_mb" -ge "$NEEDED_MB" ] || fail "$CACHE has $free_mb MB free, $NEEDED_MB are needed; set XDG_CACHE_HOME"
}

install_debootstrap() {
  if command -v debootstrap >/dev/null && [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then return; fi
  command -v apt-get >/dev/null || fail "debootstrap is missing and there is no apt-get: install debootstrap"
  apt update
  apt install --no-install-recommends debootstrap debian-archive-keyring >/dev/null
}

make_root() {
  [ -e "$ROOT" ] && return
  rm -rf "$ROOT.part"
  echo "Debian $SUITE into $ROOT"
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    "$SUITE" "$ROOT.part" "$MIRROR" >"$CACHE/debootstrap.log" 2>&1 ||
    fail "debootstrap failed: $(tail -1 "$CACHE/debootstrap.log")"
  mv "$ROOT.part" "$ROOT"
}

install_swift() {
  echo "swiftlang into $ROOT"
  mount -t proc proc "$ROOT/proc"
  cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d" # no service is started in there
  chmod +x "$ROOT/usr/sbin/policy-rc.d"
  {
    inside dpkg --configure -a
    inside apt-get -qq -o Acquire::Retries=3 update
    inside apt-get -qq -y -o Acquire::Retries=3 install --no-install-recommends swiftlang libc6-dev
    inside apt-get clean
  } >"$CACHE/apt.log" 2>&1 || fail "apt failed in $ROOT: $(tail -1 "$CACHE/apt.log")"
  inside swiftc --version 2>/dev/null | head -1 >"$READY.part"
  [ -s "$READY.part" ] || fail "swiftc does not run in $ROOT; delete $CACHE and start again"
  mv "$READY.part" "$READY"
}

main() {
  require_host
  mkdir -p "$CACHE"
  if [ ! -e "$READY" ]; then
    require_space
    if [ "${1:-}" != --in-namespace ]; then
      exec 9>"$CACHE/lock"
      flock 9 # a second run waits for the first
      [ -e "$READY" ] || unshare --mount --propagation private "$0" --in-namespace
    else
      install_debootstrap
      make_root
      install_swift
      return
    fi
  fi
  cat "$READY"
}

main "$@"

#!/usr/bin/env bash
# Brings what the checks of the phone apps and of the HTML report need: Kotlin, Swift, Chromium. Run again, it
# does nothing that is done. What cannot be had is named; the tests that need it are then skipped and say so.
set -uo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

try() {
  local what="$1"
  shift
  if "$@"; then
    echo "$what: ready"
  else
    echo "!!! $what: NOT AVAILABLE, its tests will be skipped; to bring it: $*" >&2
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo --non-interactive --preserve-env=HOME,XDG_CACHE_HOME "$@"; fi
}

browser() { # not called after a program: `command -v` finds functions too
  command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && return
  as_root apt-get -qq -o DPkg::Lock::Timeout=600 update &&
    as_root apt-get -qq -y -o DPkg::Lock::Timeout=600 install --no-install-recommends chromium fonts-dejavu-core >/dev/null
}

try "Chromium" browser
try "Android's tools" timeout 600 bash "$here/mobile/android/setup.sh"
try "Swift" as_root timeout 900 bash "$here/mobile/ios/setup.sh"

#!/usr/bin/env bash
# Brings what check.py needs, once, into ${XDG_CACHE_HOME:-~/.cache}/edge-deit/android. Debian or Ubuntu.
#
#   npm     Kotlin's compiler and ktlint; npm ci checks the hashes of package-lock.json
#   apt     junit5, aapt, android-framework-res; signed by the distribution
#   source  Android 10's API text, out of the distribution's source package; its sha256 stands below
#
# Installing needs root (or sudo without a password). Run again, it does nothing that is done.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/edge-deit/android"
api_source=android-platform-frameworks-base
api_sha256=542d4115065177ec3872f4de3757d1d5607411c918ce433e0024713fd8009aee

fail() {
  echo "error: $1" >&2
  exit 2
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo --non-interactive "$@"; fi
}

install_packages() {
  local missing=()
  command -v java >/dev/null || missing+=(openjdk-17-jdk-headless)
  command -v npm >/dev/null || missing+=(nodejs npm)
  [ -e /usr/share/java/junit-platform-console-standalone.jar ] || missing+=(junit5)
  command -v aapt >/dev/null || missing+=(aapt)
  [ -e /usr/share/android-framework-res/framework-res.apk ] || missing+=(android-framework-res)
  [ ${#missing[@]} = 0 ] && return
  echo "installing ${missing[*]}"
  { as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$cache/apt.log" 2>&1 \
    || fail "as root, install: apt-get install ${missing[*]} (see $cache/apt.log)"
}

install_npm() {
  cmp -s "$here/package-lock.json" "$cache/npm/.installed" && return
  echo "installing Kotlin's compiler and ktlint"
  mkdir -p "$cache/npm"
  cp "$here/package.json" "$here/package-lock.json" "$cache/npm/"
  (cd "$cache/npm" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp "$here/package-lock.json" "$cache/npm/.installed"
}

# The source package needs deb-src, which most machines have not: a private list, the system's stays as it is.
write_sources() {
  # shellcheck disable=SC1091
  . /etc/os-release
  case "$ID" in
    debian) local uri=http://deb.debian.org/debian components=main ;;
    ubuntu) local uri=http://archive.ubuntu.com/ubuntu components=universe ;;
    *) fail "the API text comes out of Debian's or Ubuntu's archive; this is $ID" ;;
  esac
  printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n' \
    "$uri" "$VERSION_CODENAME" "$components" "/usr/share/keyrings/$ID-archive-keyring.gpg" >"$1/api.sources"
}

download_api() {
  echo "$api_sha256  $cache/api-29.txt" | sha256sum --check --status 2>/dev/null && return
  echo "downloading Android's API text"
  local work
  work="$(mktemp -d "$cache/api.XXXXXX")"
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  write_sources "$work"
  mkdir -p "$work/lists/partial"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/api.sources" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  (cd "$work" && "${apt[@]}" update && "${apt[@]}" source --download-only "$api_source" && tar -xJf ./*.orig.tar.xz api/current.txt)
  echo "$api_sha256  $work/api/current.txt" | sha256sum --check --status \
    || fail "the archive's API text is not the one that this project knows (sha256 differs)"
  mv "$work/api/current.txt" "$cache/api-29.txt"
}

mkdir -p "$cache"
install_packages
install_npm
download_api
echo "ready: $cache"

#!/usr/bin/env bash
# The newest Python that the pins take: makes an environment for it and runs there the tests marked `newest`: an export
# of each target in each precision, photos through every runtime, and the core. Arguments go to pytest.
#
#   bash tools/newest.sh
#
# NEWEST=/path/to/python names the interpreter. The environment is kept in ~/.cache/edge-deit-newest and made anew
# when a lock or the interpreter is another one. Where it cannot be made, a line says why and nothing is tested.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.13
torch_index=https://download.pytorch.org/whl/cpu
cuda_gb=12 # the environment with CUDA libraries takes 6 of them
cache="${XDG_CACHE_HOME:-$HOME/.cache}"
folder="$cache/edge-deit-newest"
bin="$folder/bin"

skip() {
  echo "!!! Python $version: NOT TESTED: $*" >&2
  exit 0
}

is_newest() {
  "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null
}

find_python() {
  local one
  for one in ${NEWEST:-"python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python}; do
    if is_newest "$one"; then
      command -v "$one"
      return
    fi
  done
  return 1
}

install() {
  "$bin/uv" pip install --quiet --no-cache --no-deps --python "$bin/python" "$@"
}

torch_with_cuda() { # PyPI's build for Linux runs on the CPU too, once the libraries that it links are there
  [ "$(uname -sm)" = "Linux x86_64" ] || return 1
  echo "no CPU build of PyTorch for Python $version can be had: taking the CUDA build and its libraries"
  local free_kb
  free_kb="$(df -Pk "$folder" | awk 'NR == 2 {print $4}')"
  [ "$free_kb" -ge $((cuda_gb << 20)) ] ||
    skip "the CUDA build of PyTorch needs $cuda_gb GB of disk, $((free_kb >> 20)) GB are free in $cache"
  install --require-hashes --requirement requirements-cuda.lock
}

make_environment() {
  echo "installing the pinned packages for Python $version into $folder: a minute or two, once"
  rm -rf "$folder"
  "$python" -m venv "$folder"
  awk '/^[a-z]/ {uv = /^uv==/} uv' requirements.lock >"$folder/uv.lock"
  "$bin/python" -m pip install --quiet --require-hashes --no-deps --requirement "$folder/uv.lock"
  UV_HTTP_RETRIES=1 install --require-hashes --extra-index-url "$torch_index" \
    --requirement requirements-torch.lock 2>"$folder/uv.log" ||
    torch_with_cuda || { cat "$folder/uv.log" >&2; exit 1; }
  install --require-hashes --requirement requirements.lock
}

if ! python="$(find_python)"; then
  [ -z "${NEWEST:-}" ] || { echo "NEWEST=$NEWEST is not Python $version" >&2; exit 2; }
  skip "no python$version was found; NEWEST=/path/to/python$version names one"
fi
mkdir -p "$cache"
exec 9>"$folder.lock"
flock 9 # one run at a time: the environment points at the checkout that it tests
key="$({ "$python" -VV; cat requirements*.lock; } | sha256sum)"
if [ "$(cat "$folder.stamp" 2>/dev/null)" != "$key" ]; then
  rm -f "$folder.stamp"
  make_environment
  echo "$key" >"$folder.stamp"
fi
install --no-build-isolation --editable .
mapfile -t files < <(grep -rliE newest tests --include='test_*.py') # collecting all tests would take half a minute
"$bin/python" -m pytest -n "${WORKERS:-2}" --dist loadgroup -m 'newest and not fuzz' "${files[@]}" "$@"

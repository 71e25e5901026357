#!/usr/bin/env bash
# Builds the site of the documents into build/site; a link or an anchor that leads nowhere is an error.
#
#   bash tools/docs.sh .venv/bin/uv
#
# mkdocs and its packages, pinned in tools/release/docs.txt, are kept in ~/.cache/edge-deit-release.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${1:?name the uv to install with}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/edge-deit-release"
folder="$cache/docs"
mkdir -p "$cache"
exec 9>"$cache/docs.lock"
flock 9
key="$(sha256sum tools/release/docs.txt)"
if [ "$(cat "$folder.stamp" 2>/dev/null)" != "$key" ]; then
  rm -rf "$folder" "$folder.stamp"
  "$uv" venv --quiet --python 3.11 "$folder"
  "$uv" pip install --quiet --no-cache --python "$folder/bin/python" --requirement tools/release/docs.txt
  echo "$key" >"$folder.stamp"
fi
"$folder/bin/python" tools/release/site.py build/docs
NO_MKDOCS_2_WARNING=1 "$folder/bin/mkdocs" build --strict 2>&1 | grep -v "^INFO" || [ "${PIPESTATUS[0]}" = 0 ]
echo "build/site: $(find build/site -name '*.html' | wc -l) pages"

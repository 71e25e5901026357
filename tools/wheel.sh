#!/usr/bin/env bash
# Builds wheel and sdist, and uses the wheel as somebody does who has no checkout: with one target alone (export,
# validate, gate, bundle), and without PyTorch (predict, Classifier, golden, bundle).
#
#   bash tools/wheel.sh .venv/bin/uv
#
# The environments are kept in ~/.cache/edge-deit-release and made anew when what they install is another.
# DIST=folder keeps the two files there.
set -euo pipefail
cd "$(dirname "$0")/.."

uv="$(realpath "${1:?name the uv to install with}")"
root="$PWD"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/edge-deit-release"
torch_index=https://download.pytorch.org/whl/cpu
cpu_bar_s=1.2
here="$(mktemp -d)"
trap 'rm -rf "$here"' EXIT
work="$here/a folder of somebody"
mkdir -p "$cache" "$work/source" "$work/exporters"
exec 9>"$cache.lock"
flock 9
export PYTHONNOUSERSITE=1 UV_FIND_LINKS="${PIP_FIND_LINKS:-}" HF_HUB_OFFLINE=1
unset PYTHONPATH

say() { echo "--- $*"; }

environment() { # NAME REQUIREMENTS: made once, and anew when the list or the pins are others
  local folder="$cache/$1" key install
  key="$(cat "$2" "$cache/pins.txt" | sha256sum)"
  if [ "$(cat "$folder.stamp" 2>/dev/null)" != "$key" ]; then
    say "installing into $folder, once"
    rm -rf "$folder" "$folder.stamp"
    "$uv" venv --quiet --python 3.11 "$folder"
    install=("$uv" pip install --quiet --no-cache --compile-bytecode --python "$folder/bin/python" --requirement "$2")
    [ "$1" = build ] || install+=(--constraint "$cache/pins.txt")
    # PyTorch's CPU build for Linux is on PyTorch's own index alone; where it is found already, that is not asked
    "${install[@]}" 2>"$folder.log" ||
      "${install[@]}" --extra-index-url "$torch_index" --index-strategy unsafe-best-match 2>>"$folder.log" ||
      { cat "$folder.log" >&2; exit 1; }
    echo "$key" >"$folder.stamp"
  fi
}

put() { # the wheel into an environment, in place of the former one
  "$uv" pip install --quiet --no-cache --compile-bytecode --no-deps --reinstall --python "$cache/$1/bin/python" "$wheel"
}

fails() { # WORDS COMMAND...: exit code 2, and one line on stderr that holds the words
  local words="$1" code=0
  shift
  "$@" 2>"$work/said" >/dev/null || code=$?
  if [ "$code" != 2 ] || ! grep -qF -- "$words" "$work/said" || [ "$(wc -l <"$work/said")" != 1 ]; then
    echo "$* ended with $code and said: $(cat "$work/said")" >&2
    exit 1
  fi
}

# what the lock pins, without hashes: a wheel of our own has none there
sed -nE 's/^([A-Za-z0-9._-]+==[^ ;]+).*/\1/p' requirements.lock >"$cache/pins.txt"
[ "$(uname -sm)" != "Linux x86_64" ] || sed -nE 's/^(torch==[^ ;]*\+cpu).*/\1/p' requirements-torch.lock >>"$cache/pins.txt"
say "wheel and sdist, from the files that git tracks"
git ls-files >"$work/tracked"
tar --create --files-from "$work/tracked" | tar --extract --directory "$work/source"
environment build tools/release/build.txt
dist="${DIST:-$work/dist}"
mkdir -p "$dist"
rm -f "$dist"/edge_deit-*
(cd "$work/source" && "$cache/build/bin/python" -m build --no-isolation --outdir "$dist" . >"$work/log" 2>&1) ||
  { cat "$work/log"; exit 1; }
"$cache/build/bin/twine" check --strict "$dist"/edge_deit-*
wheel="$(echo "$dist"/edge_deit-*.whl)"
"$cache/build/bin/python" tools/release/contents.py "$wheel" "$dist"/edge_deit-*.tar.gz "$work/tracked"

needs() { # the requirements of an extra
  "$cache/build/bin/python" tools/release/needs.py "$wheel" "$1"
}
needs tflite >"$work/tflite.txt"
needs runtime >"$work/runtime.txt"

cd "$work"
echo 'raise SystemExit("the wrong package called exporters")' >exporters/__init__.py
photos=("$root"/edge_deit/assets/validation/000[0-4]*.png)
photos=("${photos[@]:0:5}")

say "one target alone"
environment tflite "$work/tflite.txt"
put tflite
bin="$cache/tflite/bin"
for other in executorch coremltools onnx; do
  ! "$bin/python" -c "import $other" 2>/dev/null || { echo "$other is installed: this tests nothing" >&2; exit 1; }
done
"$bin/python" -P -c 'import edge_deit.exporters as e; assert "site-packages/edge_deit/exporters" in e.__file__, e.__file__'
"$bin/edge-deit" export --target tflite --precision fp32 --output "out files"
tflite="out files/deit_tiny_distilled.fp32.tflite"
mkdir data
head -n 21 "$root/edge_deit/assets/validation/labels.csv" >data/labels.csv
tail -n +2 data/labels.csv | cut -d, -f1 | (cd "$root/edge_deit/assets/validation" && xargs cp -t "$OLDPWD/data")
"$bin/edge-deit" validate "$tflite" --data data --no-latency --output report >table
"$bin/edge-deit" gate report/report.json --thresholds "$root/tools/release/thresholds.toml"
"$bin/edge-deit" bundle "$tflite" --android "my app" --web page >/dev/null
test -x "my app/gradlew" && test -f "my app/app/src/main/assets/edge_deit/bundle.json" && test -f page/index.html
fails "pip install 'edge-deit[onnx]'" "$bin/edge-deit" export --target onnx --output other

say "without PyTorch"
environment runtime "$work/runtime.txt"
put runtime
bin="$cache/runtime/bin"
! "$bin/python" -c 'import torch' 2>/dev/null || { echo "torch is installed: this tests nothing" >&2; exit 1; }
"$bin/edge-deit" predict "$tflite" "${photos[@]}" --json >here.json
"$cache/tflite/bin/edge-deit" predict "$tflite" "${photos[@]}" --json >there.json
cmp here.json there.json
for _ in 1 2 3; do # the least of three: the machine may be busy
  "$bin/python" -P "$root/tools/release/classify.py" "$tflite" "${photos[@]}" >>classified.json
done
"$bin/python" - "$cpu_bar_s" <<'PYTHON'
import json, sys
with open("classified.json") as stream: runs = [json.loads(line) for line in stream]
found = min(runs, key=lambda run: run["first_answer_cpu_s"])
with open("here.json") as stream: predicted = json.load(stream)
answers = [[[one["label"], one["logit"]] for one in photo["top"]] for photo in predicted]
assert found["answers"] == answers, "Classifier and predict differ"
print(f"import and first answer: {found['first_answer_cpu_s']} s of processor time, at most {sys.argv[1]} s")
assert found["first_answer_cpu_s"] <= float(sys.argv[1])
PYTHON
"$bin/edge-deit" golden "$tflite" --output golden >/dev/null
"$bin/edge-deit" bundle "$tflite" --android "my other app" >/dev/null
cmp "my app/app/src/main/assets/edge_deit/golden_cases.json" "my other app/app/src/main/assets/edge_deit/golden_cases.json"
fails "no target is installed: pip install 'edge-deit[tflite]'" "$bin/edge-deit" export --target tflite
fails "pip install 'edge-deit[torch]'" "$bin/edge-deit" validate "$tflite" --data data
say "the wheel works"

#!/usr/bin/env bash
# Writes the three locks: every package of an environment, pinned, with the hashes of all its files on PyPI, so that
# no other index can put a file of its own in their place. They serve each Python that pyproject.toml admits.
# Needs uv, which `make` installs.
#
#   bash tools/lock.sh .venv/bin/python
set -euo pipefail
python="${1:?name the python of the environment to pin}"
uv="$(dirname "$python")/uv"
root="$(cd "$(dirname "$0")/.." && pwd)"
# PyTorch's CPU builds for Linux come from its own index, https://download.pytorch.org/whl/cpu/torch/, so their hashes
# are not among PyPI's: those of Python 3.11, 3.12 and 3.13 on x86-64
torch_cpu=(
  "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
  "sha256:4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2"
  "sha256:3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6"
)
# Apple makes Core AI for two systems alone: the marker of pyproject.toml's extra
coreai="(sys_platform == 'linux' and platform_machine == 'x86_64') or (sys_platform == 'darwin' and platform_machine == 'arm64')"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

compile() {
  "$uv" pip compile --quiet --generate-hashes --universal --no-annotate --no-header --python-version 3.11 "$@"
}

"$python" -m pip freeze --all --exclude-editable | sed 's/+cpu$//' | grep -v '^pip==' >"$work/frozen.txt"
compile --no-deps "$work/frozen.txt" -o "$work/requirements.lock"
torch="$(sed -n 's/^torch==\([^ +]*\).*/\1/p' "$work/frozen.txt")"
echo "torch==$torch" >"$work/torch.txt"
compile "$work/torch.txt" -o "$work/torch.lock"
{
  echo "# PyTorch alone: pip takes this file first, because the CPU build for Linux is on no index but PyTorch's own."
  echo "torch==$torch+cpu ; sys_platform == 'linux' and platform_machine == 'x86_64' \\"
  printf -- '    --hash=%s \\\n' "${torch_cpu[@]}" | sed '$s/ \\$//'
  awk '/^[a-z]/ {torch = /^torch==/} torch' "$work/requirements.lock" |
    sed "s/^\(torch==[^ ]*\)/\1 ; sys_platform != 'linux' or platform_machine != 'x86_64'/"
} >"$root/requirements-torch.lock"
{
  echo "# PyTorch's build on PyPI for Linux, and the CUDA libraries that it links, about 4 GB: tools/newest.sh takes them"
  echo "# where no CPU build can be had."
  awk '/^[a-z]/ {wanted = /^(torch|nvidia-[a-z0-9-]*)==/} wanted' "$work/torch.lock"
} >"$root/requirements-cuda.lock"
awk '/^[a-zA-Z0-9]/ {torch = /^torch==/} !torch' "$work/requirements.lock" |
  sed "s/^\(coreai-[a-z]*==[^ ]*\)/\1 ; $coreai/" >"$root/requirements.lock"

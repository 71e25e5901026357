#!/usr/bin/env bash
# Writes requirements.lock and requirements-torch.lock: every package of an environment, pinned, with the hashes of
# all its files on PyPI, so that no other index can put a file of its own in their place. Needs uv (pip install uv).
#
#   bash tools/lock.sh .venv/bin/python
set -euo pipefail
python="${1:?name the python of the environment to pin}"
root="$(cd "$(dirname "$0")/.." && pwd)"
# PyTorch's CPU build for Linux comes from its own index, so its hash is not among PyPI's
torch_cpu="sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
# Apple makes Core AI for two systems alone: the marker of pyproject.toml's extra
coreai="(sys_platform == 'linux' and platform_machine == 'x86_64') or (sys_platform == 'darwin' and platform_machine == 'arm64')"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m pip freeze --all --exclude-editable | sed 's/+cpu$//' | grep -v '^pip==' >"$work/frozen.txt"
uv pip compile --quiet --no-deps --generate-hashes --universal --no-annotate --no-header \
  --python-version 3.11 "$work/frozen.txt" -o "$work/requirements.lock"
{
  echo "# PyTorch alone: pip takes this file first, because the CPU build for Linux is on no index but PyTorch's own."
  echo "torch==$(sed -n 's/^torch==\([^ +]*\).*/\1/p' "$work/frozen.txt")+cpu ; sys_platform == 'linux' and platform_machine == 'x86_64' \\"
  echo "    --hash=$torch_cpu"
  awk '/^[a-z]/ {torch = /^torch==/} torch' "$work/requirements.lock" |
    sed "s/^\(torch==[^ ]*\)/\1 ; sys_platform != 'linux' or platform_machine != 'x86_64'/"
} >"$root/requirements-torch.lock"
awk '/^[a-zA-Z0-9]/ {torch = /^torch==/} !torch' "$work/requirements.lock" |
  sed "s/^\(coreai-[a-z]*==[^ ]*\)/\1 ; $coreai/" >"$root/requirements.lock"

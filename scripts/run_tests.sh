#!/usr/bin/env bash
# Set up if needed, check the code with ruff, then run the tests in two processes (further arguments go to pytest).
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
ruff=0
.venv/bin/python -m ruff check . || ruff=1
.venv/bin/python -m ruff format --check . || ruff=1
# A file's tests run one after the other; the longest files come first (tests/conftest.py).
.venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
[ $ruff = 0 ] || { echo "the tests passed, but ruff did not: see above them" >&2; exit 1; }

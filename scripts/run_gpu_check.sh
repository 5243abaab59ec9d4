#!/usr/bin/env bash
# Is this machine's GPU right? Set up if needed, then benchmarks/gpu_check.py (further arguments go there; --help lists
# them): train, score, sample and prune live with the models that set-up brings, and compare with what a CPU computed.
#   scripts/run_gpu_check.sh          at most 10 minutes after set-up; the report is results/gpu_check/report.md
# Where there is no GPU the same runs on the CPU, which takes longer. Run it again to continue after a kill.
# PYTHON_CHECK=python3 takes an interpreter as it is, without set-up (docs/gpu.md).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON_CHECK:-}
if [ -z "$python" ]; then
  bash scripts/setup.sh
  python=.venv/bin/python
fi
exec "$python" benchmarks/gpu_check.py "$@"

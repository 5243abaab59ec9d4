#!/usr/bin/env bash
# Pruning against every baseline on recorded traces; tables and figures go to Online/results/.
#   scripts/run_comparison.sh sample  16 traces each of the recorded sample's test problems; about an hour
#   scripts/run_comparison.sh deep    512 traces each of 8 problems, the trained judge on the first 64; about two hours
#   scripts/run_comparison.sh r1      64 traces each of the R1 study's test problems (after run_study.sh r1 FOLDER);
#                                     the trained and the zero-shot judge on the first 8; about two hours
# The judge of sample and deep is Offline/DeepPrune-Judge-mini (JUDGE=FOLDER: another). Run it again to continue after
# a kill.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh
what=${1:-}
case "$what" in
  sample | deep | r1) ;;
  *) usage ;;
esac
begin results/comparison/log.txt

judge=${JUDGE:-Offline/DeepPrune-Judge-mini}
data=DeepPrune_data
reasoner=Qwen/Qwen2.5-Coder-0.5B-Instruct
mkdir -p Online/results

compare() { # name, further settings
  step "$1"
  $python Online/compare_methods.py --config scripts/recipes/compare.yaml "${@:2}" \
    --output "results/comparison/$1.jsonl"
  for end in .csv .md .manifest.json .png _latency.png _quality.png; do
    if [ -f "results/comparison/$1$end" ]; then cp "results/comparison/$1$end" Online/results/; fi
  done
}

case "$what" in
  sample)
    compare sample --problems $data/problems/arithmetic.jsonl $data/problems/words.jsonl \
      --only $data/study/miniature/pairs.jsonl.gz \
      --traces $data/traces/qwen2.5-coder-0.5b-arithmetic.jsonl.gz $data/traces/qwen2.5-coder-0.5b-words.jsonl.gz \
      --judges trained="$judge" zero-shot=$reasoner --least-label-mass 0 \
      --k2s 4 8 --k3 4 --start 4 --finish-batch 2 --warmup 4
    ;;
  deep)
    traces=(--problems $data/problems/arithmetic.jsonl --traces $data/traces/qwen2.5-coder-0.5b-deep.jsonl.gz)
    compare deep-64 "${traces[@]}" --n 64 --judges trained="$judge" --k2s 8 20
    compare deep "${traces[@]}" --aurocs 0.7 0.8 0.9 --orders 3
    ;;
  r1)
    from=results/study/r1
    traces=(--problems $from/r1_distill_llama8b_math500.problems.jsonl --traces $from/r1_distill_llama8b_math500.jsonl
      --only $from/pairs.jsonl --truncation-k 25 --reasoner-parameters 8.0e+9 --max-model-len 8192)
    compare r1 "${traces[@]}" --aurocs 0.6 0.7 0.8 0.9 0.99
    compare r1-8 "${traces[@]}" --n 8 --judges trained=$from/qwen2.5-0.5b-packed zero-shot=$reasoner \
      --least-label-mass 0 --k2s 2 4 --k3 2 --start 2 --finish-batch 2 --warmup 2
    ;;
esac

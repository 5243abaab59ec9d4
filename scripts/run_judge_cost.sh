#!/usr/bin/env bash
# What the judge costs, and what makes it cheaper (benchmarks/judge_cost.py); tables and figures go to Online/results/.
#   scripts/run_judge_cost.sh deep    512 traces each of 8 problems: counted with the trained judge, simulated judges and
#                                     Sentence-BERT, then timed; about an hour
#   scripts/run_judge_cost.sh r1      the same on the R1 study's test problems (after run_study.sh r1 FOLDER); about an
#                                     hour
# The judge is Offline/DeepPrune-Judge-mini (JUDGE=FOLDER: another). Run it again to continue after a kill.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh
what=${1:-}
case "$what" in
  deep | r1) ;;
  *) usage ;;
esac
begin results/judge_cost/log.txt

judge=${JUDGE:-Offline/DeepPrune-Judge-mini}
data=DeepPrune_data
readings=(--similarities p_same verdict --assigns best first largest) # best, first: of the paper
mkdir -p Online/results

cost() { # name, further settings
  step "$1"
  $python benchmarks/judge_cost.py --output "results/judge_cost_$1" "${@:2}"
  for end in csv json png; do cp "results/judge_cost_$1.$end" Online/results/; done
}

case "$what" in
  deep)
    traces=(--problems $data/problems/arithmetic.jsonl --traces $data/traces/qwen2.5-coder-0.5b-deep.jsonl.gz
      --truncation-k 2 --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct)
    sizes=(--n 16 32 64 128 256 512 --k 4 8 16 32)
    cost deep "${traces[@]}" --model "$judge" --store results/comparison/deep-64.trained.sqlite --max-model-len 2048 \
      --n 16 32 64 --k 4 8 16 32 "${readings[@]}"
    cost deep_aurocs "${traces[@]}" --judge simulated --auroc 0.65 0.75 0.87 0.95 0.99 1 --n 64 512 --k 32 \
      "${readings[@]}"
    cost deep_aurocs_surety1.5 "${traces[@]}" --judge simulated --auroc 0.75 0.87 0.95 0.99 1 --n 64 512 --k 32 \
      --surety 1.5 --assigns best first
    cost deep_simulated "${traces[@]}" --judge simulated --auroc 0.87 "${sizes[@]}"
    cost deep_sbert "${traces[@]}" --judge sbert --tau 0.9 "${sizes[@]}"
    cost deep_sbert_surety1 "${traces[@]}" --judge sbert --tau 0.9 --n 64 512 --k 32 --surety 1 \
      --assigns best first largest
    # Float32: in bfloat16 the clusters of a judge whose scores lie near tau are not the same twice.
    cost deep_timed "${traces[@]}" --model "$judge" --dtype float32 --max-model-len 8192 --limit 4 --n 16 --k 32 \
      --timed 2 --timed-n 32
    ;;
  r1)
    from=results/study/r1
    traces=(--problems $from/r1_distill_llama8b_math500.problems.jsonl --traces $from/r1_distill_llama8b_math500.jsonl
      --only $from/pairs.jsonl --truncation-k 25 --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct)
    cost r1_simulated "${traces[@]}" --judge simulated --auroc 0.87 --n 16 32 64 --k 4 8 16 32 "${readings[@]}"
    cost r1_sbert "${traces[@]}" --judge sbert --tau 0.9 --n 16 32 64 --k 4 8 16 32
    cost r1_timed "${traces[@]}" --model "$judge" --max-model-len 8192 --limit 1 --n 16 --k 32 \
      --timed 1 --timed-n 24
    ;;
esac

#!/usr/bin/env bash
# The whole pipeline, small, on recorded traces of real models: set up if needed, then stages 01 to 06 with the
# CPU recipe. Results and the full log (log.txt) go to results/demo. Run it again to continue after a kill; finished
# stages are skipped.
#   scripts/run_demo.sh            minutes after set-up on two cores (README)
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh

python=.venv/bin/python
recipe="--config scripts/recipes/cpu.yaml"
out=${DEMO_OUT:-results/demo} # and DEMO_ROWS, ... below: a smaller demo, for benchmarks/kill_demo.py
problems=(DeepPrune_data/problems/arithmetic.jsonl DeepPrune_data/problems/words.jsonl DeepPrune_data/problems/unseen.jsonl)
seen=(DeepPrune_data/traces/qwen2.5-coder-0.5b-arithmetic.jsonl.gz DeepPrune_data/traces/qwen2.5-coder-0.5b-words.jsonl.gz)
unseen=DeepPrune_data/traces/qwen2.5-coder-1.5b-unseen.jsonl.gz
pairs=DeepPrune_data/offline_test_data/deepprune_pairs.jsonl
# What is pruned: some problems that the judge was not trained on, so many traces of one reasoner each.
pruned_problems=("${problems[@]}")
pruned_traces=DeepPrune_data/online_test_data/deepprune_pairs.jsonl
pruned=(--reasoner Qwen/Qwen2.5-Coder-0.5B-Instruct --limit "${DEMO_PROBLEMS:-10}" --n "${DEMO_TRACES:-16}")
smol=HuggingFaceTB/SmolLM2-135M-Instruct
source scripts/log.sh
keep_log $out/log.txt
started=$SECONDS
step() { say ""; say "== $* [$(((SECONDS - started) / 60)) min]"; }

step "01 sample traces of a few fresh problems (SmolLM2-135M, which is almost never right)"
[ -f $out/fresh_problems.jsonl ] ||
  $python scripts/00_make_problems.py --output $out/fresh_problems.jsonl --per-family 1 --seed 7 --exclude "${problems[@]}"
$python scripts/01_sample_traces.py $recipe --problems $out/fresh_problems.jsonl --model $smol --n 4 --output $out/fresh_traces.jsonl

step "02 pairs from the recorded traces"
$python Offline/build_pair_dataset.py $recipe --problems "${problems[@]}" --traces "${seen[@]}" --test-traces $unseen \
  --test-pairs-per-problem "${DEMO_TEST_PAIRS:-5}"

step "03 train the judge (SmolLM2-135M, LoRA, focal loss)"
$python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml output_dir=$out/judge bf16=auto max_samples="${DEMO_ROWS:-null}"

step "04 evaluate judges on held-out problems"
$python Offline/test_model_performance_parallel.py $recipe --model $out/judge --output $out/scores_trained.jsonl \
  --least-label-mass "${DEMO_LABEL_MASS:-0.5}"
$python Preliminaries/zero_shot_exp.py $recipe --model $smol --least-label-mass 0 --output $out/scores_zero_shot.jsonl
$python Preliminaries/sentence_bert_similarity.py --pairs $pairs --output $out/scores_sbert.jsonl

step "05 prune: the trained judge by the paper's rule and by a cheaper one, and the two limits (oracle, random)"
$python Online/greedy_cluster_threshold.py $recipe --problems "${pruned_problems[@]}" --traces $pruned_traces "${pruned[@]}" \
  --model $out/judge --least-label-mass "${DEMO_LABEL_MASS:-0.5}" --store $out/pruning.scores.sqlite --output $out/pruning_paper.jsonl \
  --then --assign largest --asks likely --finish staged --start 8 --output $out/pruning_cheaper.jsonl \
  --then --judge oracle --output $out/pruning_oracle.jsonl \
  --then --judge random --output $out/pruning_random.jsonl

step "06 report"
$python scripts/06_report.py --run demo --output $out --pairs $pairs --trained $out/judge \
  --scale "Miniature: small models, short arithmetic and word problems, n = 16; nothing here is paper scale." \
  --scores $out/scores_trained.jsonl $out/scores_zero_shot.jsonl $out/scores_sbert.jsonl \
  --problems "${pruned_problems[@]}" --traces $pruned_traces \
  --pruning $out/pruning_paper.jsonl $out/pruning_cheaper.jsonl $out/pruning_oracle.jsonl $out/pruning_random.jsonl

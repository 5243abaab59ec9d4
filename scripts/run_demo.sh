#!/usr/bin/env bash
# The whole pipeline, small, on recorded traces of real models: set up if needed, then stages 01 to 06 with the
# CPU recipe. Results and the full log (log.txt) go to results/demo. Run it again to continue after a kill; finished
# stages are skipped.
#   scripts/run_demo.sh            minutes after set-up on two cores (README)
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh
# DEMO_OUT: another folder, for all that the demo writes; with DEMO_ROWS, ... (below) for benchmarks/kill_demo.py.
out=${DEMO_OUT:-results/demo}
data_dir=${DEMO_OUT:+$DEMO_OUT/data}
data_dir=${data_dir:-DeepPrune_data}
begin "$out/log.txt"

recipe="--config scripts/recipes/cpu.yaml"
# A processor without bfloat16 takes two to four times as long for a pair: it gets fewer of them.
if [ "$($python -c 'from deepprune.base import runtime; print(runtime.compute_dtype("auto"))')" = float32 ]; then
  say "This processor has no bfloat16: fewer test pairs and problems than the README's, in float32."
  : "${DEMO_TEST_PAIRS:=3}" "${DEMO_PROBLEMS:=4}"
fi
data=DeepPrune_data
problems=($data/problems/{arithmetic,words,unseen}.jsonl)
long=$data/problems/long.jsonl
seen=($data/traces/qwen2.5-coder-0.5b-{arithmetic,words}.jsonl.gz)
unseen=$data/traces/qwen2.5-coder-1.5b-unseen.jsonl.gz
pairs=$data_dir/offline_test_data/deepprune_pairs.jsonl
# What is pruned: longer traces of a larger reasoner, on problems that the judge was not trained on.
pruned=(--problems $long --traces $data/traces/qwen2.5-coder-1.5b-long.jsonl.gz)
sizes=(--limit "${DEMO_PROBLEMS:-8}" --n "${DEMO_TRACES:-16}")
label_mass=(--least-label-mass "${DEMO_LABEL_MASS:-0.5}")
smol=HuggingFaceTB/SmolLM2-135M-Instruct

step "01 sample traces of a few fresh problems (SmolLM2-135M, which is almost never right)"
[ -f "$out/fresh_problems.jsonl" ] ||
  $python scripts/00_make_problems.py --output "$out/fresh_problems.jsonl" --per-family 1 --seed 7 \
    --exclude "${problems[@]}" $long
$python scripts/01_sample_traces.py $recipe --problems "$out/fresh_problems.jsonl" --model $smol --n 4 \
  --output "$out/fresh_traces.jsonl"

step "02 pairs from the recorded traces"
$python Offline/build_pair_dataset.py $recipe --problems "${problems[@]}" --traces "${seen[@]}" --test-traces $unseen \
  --test-pairs-per-problem "${DEMO_TEST_PAIRS:-5}" --data-dir "$data_dir"

step "03 train the judge (SmolLM2-135M, LoRA, focal loss)"
$python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml dataset_dir="$data_dir" output_dir="$out/judge" bf16=auto \
  max_samples="${DEMO_ROWS:-null}"

step "04 evaluate judges on held-out problems"
$python Offline/test_model_performance_parallel.py $recipe --pairs "$pairs" --model "$out/judge" "${label_mass[@]}" \
  --output "$out/scores_trained.jsonl"
$python Preliminaries/zero_shot_exp.py $recipe --pairs "$pairs" --model $smol --least-label-mass 0 \
  --output "$out/scores_zero_shot.jsonl"
$python Preliminaries/sentence_bert_similarity.py --pairs "$pairs" --output "$out/scores_sbert.jsonl"

step "05 prune: the trained judge by the paper's rule and by a cheaper one, and the two limits (oracle, random)"
$python Online/greedy_cluster_threshold.py $recipe "${pruned[@]}" "${sizes[@]}" --model "$out/judge" "${label_mass[@]}" \
  --store "$out/pruning.scores.sqlite" --output "$out/pruning_paper.jsonl" \
  --then --assign largest --asks likely --finish staged --start 8 --output "$out/pruning_cheaper.jsonl" \
  --then --judge oracle --output "$out/pruning_oracle.jsonl" \
  --then --judge random --output "$out/pruning_random.jsonl"

step "06 report"
$python scripts/06_report.py --run demo --output "$out" --pairs "$pairs" --trained "$out/judge" \
  --scale "Miniature: small models, arithmetic and word problems of several steps, n = 16; nothing here is paper scale." \
  --scores "$out"/scores_{trained,zero_shot,sbert}.jsonl "${pruned[@]}" \
  --pruning "$out"/pruning_{paper,cheaper,oracle,random}.jsonl

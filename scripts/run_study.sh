#!/usr/bin/env bash
# The paper's judge study, small: Sentence-BERT, zero-shot and trained judges on the same held-out pairs.
#   scripts/run_study.sh miniature    on the recorded sample; about three hours on two cores
#   scripts/run_study.sh r1 FOLDER    on traces that are not in this repository; FOLDER holds
#                                     r1_distill_llama8b_math500.jsonl.gz and llama3b_rlvr_amc23.jsonl.gz;
#                                     about three hours
# Writes results/study/, and the tables and figures of Offline/results/; every line of every package is in
# results/study/*/log.txt. Run it again to continue after a kill; finished work is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh
study=${1:-}
case "$study" in
  miniature) ;;
  r1) folder=${2:?give the folder of the trace files: scripts/run_study.sh r1 FOLDER} ;;
  *) usage ;;
esac
begin "results/study/$study/log.txt"

recipe="--config scripts/recipes/study_$study.yaml"
out=results/study/$study
smol=HuggingFaceTB/SmolLM2-135M-Instruct
qwen=Qwen/Qwen2.5-Coder-0.5B-Instruct

train() { # recipe, name, further settings
  step "train $2"
  $python LLaMA-Factory/train.py "$1" dataset_dir=results/study dataset="$study" output_dir="$out/$2" "${@:3}"
}
pack() { # name of a trained judge: half the size, and the one that is scored and may be given away
  [ -f "$out/$1-packed/adapter_config.json" ] || $python -m deepprune.judges.weights pack "$out/$1" "$out/$1-packed"
}
evaluate() { # name of a trained judge
  step "evaluate $1"
  $python Offline/test_model_performance_parallel.py $recipe --model "$out/$1" --output "$out/scores_${1%-packed}.jsonl"
}
zero_shot() { # model, name
  step "zero-shot $1"
  $python Preliminaries/zero_shot_exp.py $recipe --model "$1" --least-label-mass 0 \
    --output "$out/scores_zero_shot_$2.jsonl"
}

if [ "$study" = r1 ]; then
  for name in r1_distill_llama8b_math500 llama3b_rlvr_amc23; do
    step "import $name"
    [ -f "$out/$name.jsonl" ] || $python scripts/01_import_traces.py $recipe --input "$folder/$name.jsonl.gz" \
      --output-problems "$out/$name.problems.jsonl" --output-traces "$out/$name.jsonl"
  done
  problems=("$out/r1_distill_llama8b_math500.problems.jsonl" "$out/llama3b_rlvr_amc23.problems.jsonl")
  seen=("$out/r1_distill_llama8b_math500.jsonl")
  unseen=$out/llama3b_rlvr_amc23.jsonl
else
  problems=(DeepPrune_data/problems/{arithmetic,words,unseen}.jsonl)
  seen=(DeepPrune_data/traces/qwen2.5-coder-0.5b-{arithmetic,words}.jsonl.gz)
  unseen=DeepPrune_data/traces/qwen2.5-coder-1.5b-unseen.jsonl.gz
fi

step "pairs"
$python Offline/build_pair_dataset.py $recipe --problems "${problems[@]}" --traces "${seen[@]}" --test-traces "$unseen"

for side in offline_test:pairs finetune:train; do
  for end in jsonl manifest.json; do cp "results/study/${side%:*}_data/$study.$end" "$out/${side#*:}.$end"; done
done

step "Sentence-BERT"
$python Preliminaries/sentence_bert_similarity.py --pairs "$out/pairs.jsonl" --output "$out/scores_sbert.jsonl"

if [ "$study" = r1 ]; then
  train Offline/Qwen2.5_0.5B_lora_cpu.yaml qwen2.5-0.5b cutoff_len=2560
else
  train Offline/Qwen2.5_0.5B_lora_cpu.yaml qwen2.5-0.5b learning_rate=3e-4
fi
pack qwen2.5-0.5b
evaluate qwen2.5-0.5b-packed
zero_shot $qwen qwen2.5-0.5b
judges=("Sentence-BERT=$out/scores_sbert.jsonl" "zero-shot Qwen2.5-0.5B=$out/scores_zero_shot_qwen2.5-0.5b.jsonl")
if [ "$study" = miniature ]; then
  zero_shot $smol smollm2-135m
  # The learning curve: the first rows of the shuffled training file.
  for rows in 180 360 720; do
    train Offline/SmolLM2_lora_cpu.yaml "smollm2-135m-$rows" max_samples=$rows
    evaluate "smollm2-135m-$rows"
  done
  pack smollm2-135m-720 # Offline/DeepPrune-Judge-mini
  judges+=("zero-shot SmolLM2-135M=$out/scores_zero_shot_smollm2-135m.jsonl"
    "trained SmolLM2-135M, 720 rows=$out/scores_smollm2-135m-720.jsonl")
fi
judges+=("trained Qwen2.5-0.5B=$out/scores_qwen2.5-0.5b.jsonl") # the last one is set against the others
step "table"
$python Offline/tabulate_scores.py --pairs "$out/pairs.jsonl" --scores "${judges[@]}" \
  --traces "${seen[@]}" "$unseen" --output "$out/$study"
for file in "$out/$study".{csv,md,manifest.json} "$out/$study"_*.png; do
  if [ -f "$file" ]; then cp "$file" Offline/results/; fi
done
step "pack"
$python -m deepprune.base.jsonl pack "$out/pairs.jsonl" "$out/train.jsonl" "$out"/scores_*.jsonl
step "done"

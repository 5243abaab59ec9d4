#!/usr/bin/env bash
# How early can one tell? Judges on pairs of which both prefixes are partial: all sources, several cuts, three reasoners
# held out whole.
#   scripts/run_partial_study.sh FOLDER                        import, pairs, references without a language model, report
#   scripts/run_partial_study.sh FOLDER RECIPE ROWS... [KEY=VALUE...]
#                          also the judge of a training recipe (Offline/*.yaml): zero-shot, and trained on the first so
#                          many rows of the training set, each size a point of its learning curve; KEY=VALUE: the
#                          recipe's, as cutoff_len=4096 use_cpu=false flash_attn=disabled
# FOLDER holds the trace files, which are not in this repository (docs/partial_traces.md names their sources). STUDY=gpu
# takes the settings of scripts/recipes/study_partial_gpu.yaml. Writes results/study/partial/ (or partial_gpu/) and the
# tables and figures of Offline/results/partial*; every line of every package is in log.txt there. Run it again to
# continue after a kill; finished work is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/common.sh
case "${1:-}" in "" | -*) usage ;; esac
folder=$1
recipe_of_judge=${2:-}
shift $(($# < 2 ? $# : 2))
name=partial${STUDY:+_$STUDY}
out=results/study/$name
begin "$out/log.txt"
recipe="--config scripts/recipes/study_$name.yaml"

# name in tables | file | answers | who sees it
sources=(
  "R1-8B, MATH500|r1_distill_llama8b_math500|math|seen"
  "Gemma-12B, MMLU-Pro, GPQA|gemma4_12b_mmlupro_gpqa|choice|seen"
  "DeepSeek-V3, GPT-4.1, OTIS AIME|otis_mock_aime_long|math|seen"
  "Qwen3-8B, StrategyQA|qwen3_8b_strategyqa|text|seen"
  "R1-14B, StrategyQA (held out)|r1_distill_qwen14b_strategyqa|text|unseen"
  "gpt-oss-120b, olympiad (held out)|gptoss120b_aimo3_imo|math|unseen"
  "Llama-3B, AMC23 (held out)|llama3b_rlvr_amc23|math|unseen"
)
problems=() seen=() unseen=() named=()
for source in "${sources[@]}"; do
  IFS="|" read -r title file answers side <<< "$source"
  step "import $file"
  [ -f "$out/$file.jsonl" ] || $python scripts/01_import_traces.py $recipe --input "$folder/$file.jsonl.gz" \
    --answer-type "$answers" --output-problems "$out/$file.problems.jsonl" --output-traces "$out/$file.jsonl"
  problems+=("$out/$file.problems.jsonl")
  if [ "$side" = seen ]; then seen+=("$out/$file.jsonl"); else unseen+=("$out/$file.jsonl"); fi
  named+=("$title=$out/$file.jsonl")
done

step "pairs"
if [ ! -f "results/study/offline_train_data/$name.jsonl" ]; then
  $python Offline/build_pair_dataset.py $recipe --problems "${problems[@]}" --traces "${seen[@]}" \
    --test-traces "${unseen[@]}"
fi
pairs=results/study/offline_test_data/$name.jsonl

judges=()
for reference in lengths question features; do
  step "reference: $reference"
  [ -f "$out/scores_$reference.jsonl" ] || $python Preliminaries/fitted_references.py --reference "$reference" \
    --pairs "$pairs" --fit "results/study/offline_train_data/$name.jsonl" --output "$out/scores_$reference.jsonl"
  judges+=("$reference=$out/scores_$reference.jsonl")
done
for few in 25 50 100; do # the learning curve of what is fitted
  step "reference: features, $few problems"
  [ -f "$out/scores_features_$few.jsonl" ] || $python Preliminaries/fitted_references.py --reference features \
    --fit-problems $few --pairs "$pairs" --fit "results/study/offline_train_data/$name.jsonl" \
    --output "$out/scores_features_$few.jsonl"
  judges+=("features, $few problems=$out/scores_features_$few.jsonl")
done
step "Sentence-BERT"
$python Preliminaries/sentence_bert_similarity.py --pairs "$pairs" --output "$out/scores_sbert.jsonl"
judges+=("Sentence-BERT=$out/scores_sbert.jsonl")

if [ -n "$recipe_of_judge" ]; then
  model=$(sed -n 's/^model_name_or_path: *\([^ #]*\).*/\1/p' "$recipe_of_judge")
  sizes=() more=()
  for word in "$@"; do
    case $word in
      model_name_or_path=*) model=${word#*=} more+=("$word") ;;
      *=*) more+=("$word") ;;
      *) sizes+=("$word") ;;
    esac
  done
  short=$(basename "$model")
  step "zero-shot $short"
  $python Preliminaries/zero_shot_exp.py $recipe --pairs "$pairs" --model "$model" --least-label-mass 0 \
    --output "$out/scores_zero_shot_$short.jsonl"
  for rows in "${sizes[@]}"; do
    step "train $short on $rows rows"
    $python LLaMA-Factory/train.py "$recipe_of_judge" dataset_dir=results/study dataset="$name" \
      output_dir="$out/$short-$rows" max_samples="$rows" "${more[@]}"
    [ -f "$out/$short-$rows-packed/adapter_config.json" ] \
      || $python -m deepprune.judges.weights pack "$out/$short-$rows" "$out/$short-$rows-packed"
    step "evaluate $short, $rows rows"
    # A judge of few rows may not have learned its labels yet: a point of the curve all the same, said in its manifest.
    $python Offline/test_model_performance_parallel.py $recipe --pairs "$pairs" --model "$out/$short-$rows-packed" \
      --least-label-mass 0 --output "$out/scores_$short-$rows.jsonl"
  done
fi
# What was scored in this run or an earlier one: zero-shot judges, then trained ones by their rows.
for file in "$out"/scores_zero_shot_*.jsonl; do
  if [ -f "$file" ]; then judges+=("zero-shot $(basename "${file#*zero_shot_}" .jsonl)=$file"); fi
done
while read -r file; do
  stem=$(basename "${file#*scores_}" .jsonl)
  judges+=("trained ${stem%-*}, ${stem##*-} rows=$file")
done < <(find "$out" -name "scores_*-[0-9]*.jsonl" ! -name "scores_zero_shot_*" | sort -V)

step "table"
$python Offline/tabulate_prefixes.py $recipe --pairs "$pairs" --scores "${judges[@]}" --traces "${named[@]}" \
  --output "$out/$name" --resamples 300
for file in "$out/$name".{csv,md,manifest.json} "$out/$name"_*.png; do
  if [ -f "$file" ]; then cp "$file" Offline/results/; fi
done
step "pack"
$python -m deepprune.base.jsonl pack "$out"/scores_*.jsonl
step "done"

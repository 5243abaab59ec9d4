"""Stage 03: train the judge with LLaMA-Factory (pip-installed, unpatched) and focal loss on the label token.

    python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml                      # two cores, minutes
    python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml learning_rate=1e-3 output_dir=models/other
    torchrun --nproc-per-node 8 LLaMA-Factory/train.py Offline/Qwen3_full_sft.yaml   # GPUs, DeepSpeed too

The YAML is a LLaMA-Factory YAML; key=value arguments override it. Five keys are ours:

    use_focal_loss     true (default), or false for cross-entropy on the same tokens
    focal_loss_gamma   >= 0, default 2.0; 0 is cross-entropy weighted by alpha
    focal_loss_alpha   [different, same] class weights, or one number for every target (default 1.0)
    focal_loss_scope   label (default): only the label is learned; all: also what stands before and after it
    judge_profile      YAML of how the judge is asked (default: the one that stage 02 wrote with the rows, or ours)

bf16 may also be auto: bfloat16 where the processor or GPU has it (elsewhere it is hundreds of times slower).
model_name_or_path may be a local folder, a hub id, or a packaged fallback (deepprune/engines/models.py).
cutoff_len is the longest judge prompt in tokens, as stage 02's --cutoff is; longer rows are refused, not cut.
Settings of LLaMA-Factory or transformers that would change the loss, the rows or the prompt in silence, or do
nothing here, are refused by name (REFUSED in deepprune/judges/training/keys.py).
Reads the rows that dataset_dir/dataset_info.json lists, one JSON object a line:

    {"system": "You compare ...", "instruction": "Problem: ...", "input": "", "output": "yes"}

Writes the adapter or model, judge_profile.yaml and manifest.json into output_dir. A killed training goes on from its
last whole checkpoint with the same command; a finished one is skipped; other settings or data for the same output_dir
are refused (overwrite_output_dir=true starts anew). A loss, gradient or weight that is not finite stops the training at
that step (deepprune/judges/training/guard.py).
"""

import sys
from pathlib import Path

from deepprune.base import runtime
from deepprune.base.stage import command
from deepprune.engines import models
from deepprune.engines.upstream import import_llamafactory
from deepprune.judges.training.data import TrainingData
from deepprune.judges.training.recipe import Recipe
from deepprune.judges.training.run import TrainingRun
from deepprune.judges.training.template import check_template
from deepprune.judges.training.upstream import fine_tune
from deepprune.judges.training.watch import Watch


@command
def main() -> None:
    if len(sys.argv) < 2 or {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    recipe = Recipe.read(Path(sys.argv[1]), sys.argv[2:])
    import_llamafactory()
    recipe.check()
    data = TrainingData.find(recipe)
    model = models.resolve(str(recipe.args["model_name_or_path"]))
    prompts = check_template(recipe, model, data.profile)
    data.check_control_tokens(prompts.tokenizer)

    run = TrainingRun.open(recipe, data, model)
    if run.is_done():
        return
    watch = Watch(run.manifest if run.first else None, draw=not recipe.args.get("disable_tqdm"))
    fine_tune(recipe, data, model, prompts, run.checkpoint(), watch)
    run.finish(watch)


if __name__ == "__main__":
    runtime.ensure()  # its allocator and thread library train faster too
    main()

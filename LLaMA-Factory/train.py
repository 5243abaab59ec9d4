"""Stage 03: train the judge with LLaMA-Factory (pip-installed, unpatched) and focal loss on the label token.

    python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml                      # two cores, minutes
    python LLaMA-Factory/train.py Offline/SmolLM2_lora_cpu.yaml learning_rate=1e-3 output_dir=models/other
    torchrun --nproc-per-node 8 LLaMA-Factory/train.py Offline/Qwen3_full_sft.yaml   # GPUs, DeepSpeed too

The YAML is a LLaMA-Factory YAML; key=value arguments override it. Four keys are ours:

    use_focal_loss     true (default), or false for cross-entropy on the same tokens
    focal_loss_gamma   >= 0, default 2.0; 0 is cross-entropy weighted by alpha
    focal_loss_alpha   [different, same] class weights, or one number for every target (default 1.0)
    focal_loss_scope   label (default): only the label token is learned; all: also the end-of-turn after it

bf16 may also be auto: bfloat16 where the processor or GPU has it (elsewhere it is hundreds of times slower).
model_name_or_path may be a local folder, a hub id, or a packaged fallback (deepprune/models.py).
Reads the rows that dataset_dir/dataset_info.json lists, one JSON object a line:

    {"system": "You compare ...", "instruction": "Problem: ...", "input": "", "output": "yes"}

Writes the adapter or model and manifest.json into output_dir. A killed training goes on from its last whole
checkpoint with the same command; a finished one is skipped; other settings or data for the same output_dir
are refused (overwrite_output_dir=true starts anew).
"""

import dataclasses
import difflib
import enum
import json
import os
import shutil
import sys
import time
import types
import typing
from pathlib import Path

from deepprune import config, jsonl, models, prompts, runtime
from deepprune.errors import UserError, command
from deepprune.focal_loss import LossSettings, trainer_class
from deepprune.manifest import Manifest, manifest_path
from deepprune.upstream import import_llamafactory

# Where things lie and how often they are logged or saved does not change the judge: free on resume.
FREE = ("logging_steps", "save_steps", "save_total_limit", "dataloader_num_workers", "overwrite_cache",
        "preprocessing_num_workers", "preprocessing_batch_size", "plot_loss", "report_to", "run_name",
        "disable_tqdm")  # fmt: skip
PLACES = ("output_dir", "overwrite_output_dir", "model_name_or_path", "dataset_dir", "resume_from_checkpoint")


@command
def main() -> None:
    if len(sys.argv) < 2 or {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    recipe, overrides = Path(sys.argv[1]), sys.argv[2:]
    args = read_recipe(recipe, overrides)
    import_llamafactory()
    where = check_keys(args, recipe, overrides)
    loss = take_loss_settings(args, where)
    check_supported(args, loss, where)
    files, entries, labels = find_datasets(args, loss, where)
    model = models.resolve(str(args["model_name_or_path"]))
    check_template(str(args["template"]), model, where)

    settings = {key: value for key, value in args.items() if key not in PLACES}
    settings |= dataclasses.asdict(loss)
    settings |= {"world_size": int(os.environ.get("WORLD_SIZE", 1)), "datasets": entries}
    first = os.environ.get("RANK", "0") == "0"
    manifest = open_manifest(args, settings, files, {"judge": f"{model.name} ({model.source})"}, first)
    output = Path(args["output_dir"])
    if manifest and manifest.complete and has_weights(output):
        if first:
            print(f"{output}: trained already with these settings and data, nothing to do")
        return

    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.train import tuner
    from llamafactory.train.sft import workflow

    # The names through which LLaMA-Factory's SFT workflow finds what we replace.
    workflow.load_model = in_compute_dtype(workflow.load_model)
    workflow.CustomSeq2SeqTrainer = trainer_class(
        workflow.CustomSeq2SeqTrainer, loss, labels=labels,
        cutoff_len=None if args.get("packing") or args.get("neat_packing") else args.get("cutoff_len", 2048),
    )  # fmt: skip
    tuner.get_train_args = refusing(tuner.get_train_args, recipe)
    # One training sample as text; upstream adds hundreds of token ids.
    SupervisedDatasetProcessor.print_data_example = lambda it, row: print(it.tokenizer.decode(row["input_ids"]))

    checkpoint = last_whole_checkpoint(output)
    if checkpoint and first:
        print(f"{output}: going on from {checkpoint.name}")
    handed = args | {
        "model_name_or_path": model.path,
        # We choose the checkpoint; LLaMA-Factory's own search would take a half-written one.
        "resume_from_checkpoint": str(checkpoint) if checkpoint else None,
        "overwrite_output_dir": True,
    }
    progress = make_progress(manifest if first else None)
    tuner.run_exp(handed, callbacks=[progress])
    if first:
        name_base_model(output, model.name)
        losses = [entry["loss"] for entry in progress.log if "loss" in entry]
        final = losses[-1] if losses else None
        manifest.finish(
            progress.rows, final_loss=final, steps=progress.steps,
            mean_loss=sum(losses) / len(losses) if losses else None,
        )  # fmt: skip
        seconds = manifest.data["wall_seconds"]
        shown = "not logged" if final is None else f"{final:.4f}"
        print(f"{output}: {progress.rows} pairs, {progress.steps} steps, final loss {shown}, {seconds:.0f} s")


def read_recipe(recipe: Path, overrides: list[str]) -> dict:
    """The YAML with the key=value overrides, values typed as LLaMA-Factory types them (1e-4 is a number); bf16: auto is decided."""
    if not recipe.is_file():
        raise UserError(f"{recipe}: no such file (a training recipe, like Offline/SmolLM2_lora_cpu.yaml)")
    config.read_yaml(recipe)  # names file and line of broken YAML
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for item in overrides:
        if "=" not in item.lstrip("-") or item.startswith("-"):
            raise UserError(f"expected key=value after {recipe}, found {item!r}")
    try:
        merged = OmegaConf.merge(OmegaConf.load(recipe), OmegaConf.from_cli(overrides))
        args = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{recipe}: {error}") from error
    if args.get("bf16") == "auto":
        args["bf16"] = runtime.has_bfloat16() if args.get("use_cpu") else runtime.has_gpu()
    return args


def check_keys(args: dict, recipe: Path, overrides: list[str]) -> typing.Callable[[str], str]:
    """Check every key and the type of its value before LLaMA-Factory does, to name file and line.

    Returns a function key -> "file:line" (or the command line). Raises UserError.
    """
    from llamafactory import hparams

    given = {item.partition("=")[0].split(".")[0] for item in overrides}

    def where(key: str) -> str:
        if key in given:
            return "command line"
        return f"{recipe}:{config.yaml_line(recipe, key)}" if key in args else str(recipe)

    known: dict[str, typing.Any] = {field.name: None for field in dataclasses.fields(LossSettings)}
    for kind in (hparams.ModelArguments, hparams.DataArguments, hparams.TrainingArguments,
                 hparams.FinetuningArguments, hparams.GeneratingArguments):  # fmt: skip
        hints = typing.get_type_hints(kind)
        known |= {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
    for key, value in args.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{where(key)}: unknown key {key!r}{hint}")
        wanted = type_problem(value, known[key])
        if wanted:
            raise UserError(f"{where(key)}: {key} should be {wanted}, found {value!r}")
    for key in ("model_name_or_path", "template", "dataset", "output_dir", "finetuning_type"):
        if not args.get(key):
            raise UserError(f"{where(key)}: {key} is required")
    return where


def type_problem(value: typing.Any, hint: typing.Any) -> str | None:
    """What a scalar should be by its field's type, or None if it fits (or cannot be told)."""
    if hint is None or value is None or isinstance(value, (dict, list)):
        return None
    parts = [hint]
    while any(typing.get_origin(p) in (typing.Union, types.UnionType) for p in parts):
        parts = [a for p in parts for a in (typing.get_args(p) or (p,))]
    choices = [c for p in parts if typing.get_origin(p) is typing.Literal for c in typing.get_args(p)]
    if str not in parts:  # an enum beside str is the same choice, but checked (and documented) upstream
        choices += [c.value for p in parts if isinstance(p, enum.EnumMeta) for c in p]
    if choices:
        return None if value in choices else f"one of {', '.join(map(str, choices))}"
    if isinstance(value, str):
        fits = any(not isinstance(p, type) or p is str or issubclass(p, (dict, enum.Enum)) for p in parts)
    elif isinstance(value, bool):
        fits = bool in parts
    else:
        fits = any(p in parts for p in ((float,) if isinstance(value, float) else (int, float)))
    return None if fits else " or ".join(getattr(p, "__name__", str(p)) for p in parts if p is not type(None))


def take_loss_settings(args: dict, where: typing.Callable[[str], str]) -> LossSettings:
    """Remove our keys from args (LLaMA-Factory refuses them). Raises UserError for a bad value."""
    names = [field.name for field in dataclasses.fields(LossSettings)]
    loss = LossSettings(**{name: args.pop(name) for name in names if name in args})
    problem = loss.problem()
    if problem:
        raise UserError(f"{where(problem[0])}: {problem[0]} {problem[1]}")
    return loss


def check_supported(args: dict, loss: LossSettings, where: typing.Callable[[str], str]) -> None:
    """Refuse what would silently train with another loss than the one asked for."""
    if args.get("stage", "sft") != "sft" or not args.get("do_train", False):
        raise UserError(f"{where('stage')}: the judge is trained with stage: sft and do_train: true")
    others = ["use_dft_loss", "use_eaft_loss", "use_asft_loss", "use_hyper_parallel"]
    if loss.use_focal_loss:
        others.append("enable_liger_kernel")  # its fused loss returns no logits
    if loss.focal_loss_scope == "label":
        others.append("train_on_prompt")
    for key in others:
        if args.get(key):
            raise UserError(f"{where(key)}: {key} does not go together with our loss; remove one of the two")
    for name in ("USE_RAY", "USE_MCA"):
        if os.environ.get(name, "0").lower() in ("1", "true"):
            raise UserError(f"{name} is set: its workers would not see our loss; use torchrun instead")
    deepspeed = args.get("deepspeed")
    if isinstance(deepspeed, str):
        line = where("deepspeed")
        if not Path(deepspeed).is_file():
            raise UserError(f"{line}: no such file: {deepspeed} (run from the repository's root)")
        if "LOCAL_RANK" not in os.environ:
            launch = f"torchrun --nproc-per-node <GPUs> {' '.join(sys.argv)}"
            raise UserError(f"{line}: DeepSpeed needs a launcher: {launch}")


def find_datasets(args: dict, loss: LossSettings, where: typing.Callable) -> tuple[list[Path], dict, tuple[str, ...]]:
    """The files behind `dataset` and `eval_dataset`, checked row by row, their registry entries, and the judge's labels.

    Raises UserError naming the registry, the file or its line.
    """
    folder = args.get("dataset_dir", "data")
    if not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        raise UserError(f"{where('dataset_dir')}: dataset_dir should be a local folder, found {folder!r}")
    registry = Path(folder) / "dataset_info.json"
    if not registry.is_file():
        raise UserError(
            f"{registry}: no such file; make the pairs first (Offline/build_pair_dataset.py), or fix dataset_dir"
        )
    try:
        known = json.loads(registry.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{registry}:{error.lineno}: not valid JSON: {error.msg}") from error
    files, entries, labels = [], {}, prompts.LABELS
    for key in ("dataset", "eval_dataset"):
        names = args.get(key) or []
        for name in [n.strip() for n in names.split(",")] if isinstance(names, str) else names:
            if name not in known:
                raise UserError(f"{where(key)}: no entry {name!r} in {registry}; it has {', '.join(known)}")
            entries[name] = known[name]
            if "file_name" not in known[name]:
                raise UserError(f"{registry}: entry {name!r} has no file_name (a local file)")
            file = Path(folder) / known[name]["file_name"]
            if not file.is_file():
                raise UserError(f"{file}: no such file (entry {name!r} of {registry}); make the pairs first")
            if file.suffix == ".jsonl":
                labels = check_rows(file, known[name], loss)
            files.append(file)
    if labels != prompts.LABELS and isinstance(loss.focal_loss_alpha, list):
        raise UserError(f"{where('focal_loss_alpha')}: of a list-wise judge focal_loss_alpha is one number")
    return files, entries, labels


def check_template(template: str, model: models.ResolvedModel, where: typing.Callable[[str], str]) -> None:
    """Refuse a template whose prompt is not, token for token, the one that evaluation and clustering will ask.

    Raises UserError that names the templates that fit the model.
    """
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)
    sample = ("What is 1 + 1?", "We add\n\n1 and 1", "The sum", 1)
    row = prompts.training_row(*sample)
    try:
        wanted = prompts.prompt_ids(tokenizer, *sample[:3])
    except ValueError as error:
        raise UserError(
            f"{where('model_name_or_path')}: {model.name} has no chat template: take an instruct model"
        ) from error
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]

    def writes(name: str) -> list[int]:
        try:
            return TEMPLATES[name].encode_oneturn(tokenizer, turns, row["system"])[0]
        except (ValueError, TypeError, AttributeError, RuntimeError):  # a template for another kind of tokenizer
            return []

    if template not in TEMPLATES or writes(template) != wanted:
        fitting = [name for name in sorted(TEMPLATES) if writes(name) == wanted]
        raise UserError(
            f"{where('template')}: template {template!r} does not write the prompt as {model.name}'s own chat template "
            f"does, so the judge would be asked otherwise than it was trained; fitting: {', '.join(fitting) or 'none'}"
        )


def check_rows(file: Path, entry: dict, loss: LossSettings) -> tuple[str, ...]:
    """Every row has the registry's columns, and answers with a label in scope 'label'. Returns the labels."""
    columns = entry.get("columns", {})
    prompt, response = columns.get("prompt", "instruction"), columns.get("response", "output")
    rows, expected = 0, prompts.LABELS
    for number, row in jsonl.read(file):
        rows += 1
        if rows == 1 and row.get(response) in prompts.LIST_LABELS:
            expected = prompts.LIST_LABELS
        if entry.get("formatting", "alpaca") != "alpaca":
            continue
        for column in {prompt, response, *columns.values()}:
            if not isinstance(row.get(column), str):
                raise UserError(f"{file}:{number}: a training row needs the text field {column!r}")
        answer = row[response]
        if loss.focal_loss_scope == "label" and answer not in expected:
            labels = " or ".join(expected) if len(expected) == 2 else "0 or a letter"
            raise UserError(f"{file}:{number}: {response!r} should be {labels}, found {answer!r}")
    if not rows:
        raise UserError(f"{file}: no training rows")
    return expected


def open_manifest(args: dict, settings: dict, files: list[Path], judge: dict, first: bool) -> Manifest | None:
    """The output's manifest. Only the first rank writes; the others read what is there (None: nothing)."""
    output = Path(args["output_dir"])
    anew = bool(args.get("overwrite_output_dir"))
    if not first:
        if anew or not manifest_path(output).is_file():
            return None
        return Manifest.open(output, "train", settings, files, FREE, models=judge, read_only=True)
    if anew and manifest_path(output).is_file():  # ours, so its checkpoints are ours to remove
        for old in output.glob("checkpoint-*"):
            shutil.rmtree(old)
    empty = output.is_dir() and not any(output.iterdir())
    try:
        return Manifest.open(output, "train", settings, files, FREE, anew or empty, models=judge)
    except UserError as error:
        raise UserError(str(error).replace("pass --overwrite", "add overwrite_output_dir=true")) from error


def has_weights(output: Path) -> bool:
    names = ("adapter_model*", "model*.safetensors", "pytorch_model*.bin")
    return any(any(output.glob(name)) for name in names)


def last_whole_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint with a trainer state, the last file that a checkpoint gets. None: start anew."""
    found = [p.parent for p in output.glob("checkpoint-*/trainer_state.json") if readable(p)]
    return max(found, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def readable(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text()))
    except ValueError:
        return False


def refusing(get_train_args: typing.Callable, recipe: Path) -> typing.Callable:
    """LLaMA-Factory's parser with its refusals as one clear line."""

    def parse(args=None):
        try:
            return get_train_args(args)
        except (ValueError, TypeError, ImportError) as error:
            raise UserError(f"{recipe}: LLaMA-Factory refuses these settings: {error}") from error

    return parse


def in_compute_dtype(load_model: typing.Callable) -> typing.Callable:
    """LLaMA-Factory's load_model with frozen weights in float32 where that is what it computes in.

    Upstream loads weights in the checkpoint's own type (bfloat16) and, with bf16: false, leaves them so: on a CPU
    every product would be bfloat16's all the same, which a processor without it emulates hundreds of times slower.
    """

    def load(tokenizer, model_args, *args, **kwargs):
        import torch

        model = load_model(tokenizer, model_args, *args, **kwargs)
        return model.float() if model_args.compute_dtype == torch.float32 else model

    return load


def make_progress(manifest: Manifest | None):
    """A trainer callback that keeps the log for the manifest, and at each save the time spent so far."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        log, rows, steps = [], 0, 0

        def on_train_begin(self, args, state, control, **kwargs):
            dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
            self.rows = len(dataset) if hasattr(dataset, "__len__") else 0

        def on_save(self, args, state, control, **kwargs):
            if manifest:
                now = time.monotonic()
                manifest.data["wall_seconds"] += round(now - manifest.started, 1)
                manifest.started = now
                manifest.data["complete"] = False
                manifest.save()

        def on_train_end(self, args, state, control, **kwargs):
            self.log, self.steps = state.log_history, state.global_step

    return Progress()


def name_base_model(output: Path, name: str) -> None:
    """In an adapter's config, the model as the user named it instead of a cache folder of this machine."""
    file = output / "adapter_config.json"
    if file.is_file():
        adapter = json.loads(file.read_text())
        jsonl.write_json(file, adapter | {"base_model_name_or_path": name}, indent=2)


if __name__ == "__main__":
    runtime.ensure()  # its allocator and thread library train faster too
    main()

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
model_name_or_path may be a local folder, a hub id, or a packaged fallback (deepprune/engines/models.py).
cutoff_len is the longest judge prompt in tokens, as stage 02's --cutoff is; longer rows are refused, not cut.
Settings of LLaMA-Factory or transformers that would change the loss, the rows or the prompt in silence, or do
nothing here, are refused by name (REFUSED below).
Reads the rows that dataset_dir/dataset_info.json lists, one JSON object a line:

    {"system": "You compare ...", "instruction": "Problem: ...", "input": "", "output": "yes"}

Writes the adapter or model and manifest.json into output_dir. A killed training goes on from its last whole
checkpoint with the same command; a finished one is skipped; other settings or data for the same output_dir
are refused (overwrite_output_dir=true starts anew). A loss, gradient or weight that is not finite stops the
training at that step (deepprune/judges/training_guard.py).
"""

import contextlib
import copy
import dataclasses
import difflib
import enum
import itertools
import json
import math
import os
import shutil
import sys
import time
import types
import typing
from pathlib import Path

from deepprune.base import console, jsonl, progress, runtime, yaml_files
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest, manifest_path
from deepprune.base.stage import command, places
from deepprune.base.storage import storage_trouble
from deepprune.engines import models
from deepprune.engines.upstream import import_llamafactory
from deepprune.judges import prompts
from deepprune.judges.focal_loss import ANSWER_TOKENS, LossSettings, trainer_class
from deepprune.judges.training_guard import ADVICE, weights_problem

# Where things lie and how often they are logged or saved does not change the judge: free on resume.
FREE = ("logging_steps", "save_steps", "save_total_limit", "dataloader_num_workers", "overwrite_cache",
        "preprocessing_num_workers", "preprocessing_batch_size", "plot_loss", "report_to", "run_name",
        "disable_tqdm", "flash_attn")  # fmt: skip
PLACES = ("output_dir", "overwrite_output_dir", "model_name_or_path", "dataset_dir", "resume_from_checkpoint")

# Every setting of LLaMA-Factory 0.9.5 and transformers 5.19 stands in one of two tables. ACCEPTED ones leave the loss,
# the rows and the prompt as they are; a newer version's setting that stands in neither is refused.
ACCEPTED = frozenset(
    """
    model_name_or_path adapter_name_or_path adapter_folder cache_dir model_revision low_cpu_mem_usage flash_attn
    disable_gradient_checkpointing use_reentrant_gc upcast_layernorm upcast_lmhead_output train_from_scratch offload_folder
    use_kv_cache print_param_status quantization_method quantization_bit quantization_type double_quantization
    quantization_device_map
    template dataset eval_dataset dataset_dir cutoff_len overwrite_cache preprocessing_batch_size preprocessing_num_workers
    max_samples eval_on_each_dataset enable_thinking data_shared_file_system
    output_dir overwrite_output_dir do_train do_eval per_device_train_batch_size num_train_epochs max_steps learning_rate
    lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon
    gradient_accumulation_steps max_grad_norm bf16 fp16 bf16_full_eval fp16_full_eval tf32 gradient_checkpointing
    gradient_checkpointing_kwargs use_cache torch_empty_cache_steps logging_strategy logging_steps logging_first_step
    log_on_each_node include_num_input_tokens_seen log_level log_level_replica disable_tqdm report_to run_name project
    trackio_space_id trackio_bucket_id trackio_static_space_id eval_strategy eval_steps eval_delay
    per_device_eval_batch_size prediction_loss_only eval_on_start eval_do_concat_batches eval_use_gather_object
    eval_accumulation_steps include_for_metrics batch_eval_metrics save_strategy save_steps save_on_each_node
    save_total_limit push_to_hub hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    load_best_model_at_end metric_for_best_model greater_is_better restore_callback_states_from_checkpoint
    full_determinism seed data_seed use_cpu accelerator_config dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    train_sampling_strategy length_column_name ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers
    ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug skip_memory_metrics local_rank
    enable_torch_profiler profiler_output_dir profiler_wait_steps profiler_warmup_steps profiler_active_steps
    profiler_repeat profiler_record_shapes profiler_profile_memory profiler_with_stack profile_modules
    stage finetuning_type freeze_trainable_layers freeze_trainable_modules freeze_extra_modules additional_target
    module_dropout oft_rank oft_block_size oft_target create_new_adapter lora_alpha lora_dropout lora_rank lora_target
    loraplus_lr_ratio loraplus_lr_embedding use_rslora use_dora pissa_init pissa_iter pissa_convert pure_bf16
    use_llama_pro use_adam_mini use_muon freeze_vision_tower freeze_multi_modal_projector freeze_language_model
    compute_accuracy disable_shuffling early_stopping_steps plot_loss include_effective_tokens_per_second
    use_swanlab swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_logdir
    """.split()
)
# Settings that are refused unless they have their default value, by the reason.
REFUSED = {
    "does not go together with our loss": """label_smoothing_factor use_dft_loss use_eaft_loss eaft_alpha use_asft_loss
        asft_alpha train_on_prompt enable_liger_kernel use_liger_kernel liger_kernel_config use_unsloth use_unsloth_gc use_kt
        use_v1_kernels moe_aux_loss_coef use_hyper_parallel hyper_parallel_args use_mca parallelism_config
        average_tokens_across_devices label_names ignore_pad_token_for_loss fp8 fp8_backend
        fp8_enable_fsdp_float8_all_gather torch_compile torch_compile_backend torch_compile_mode""",
    "would train on noisy embeddings, which evaluation has not": "neftune_noise_alpha",
    "lets pairs see each other, which they do not in evaluation": "packing neat_packing",
    "would train another model than the one that is evaluated": """resize_vocab add_tokens add_special_tokens
        new_special_tokens_config init_special_tokens rope_scaling shift_attn mixture_of_depths""",
    "would write another prompt than the evaluation's": """split_special_tokens use_fast_tokenizer mask_history tool_format
        default_system preserve_thinking""",
    "would train on rows that were not checked": "streaming buffer_size tokenized_path",
    "would leave rows out or repeat them in silence": """mix_strategy interleave_probs dataloader_drop_last ignore_data_skip
        auto_find_batch_size""",
    "would put pairs of one problem on both sides (name held-out problems with eval_dataset)": "val_size",
    "updates weights before their gradients could be checked": """use_galore galore_target galore_rank
        galore_update_interval galore_scale galore_proj_type galore_layerwise use_apollo apollo_target apollo_rank
        apollo_update_interval apollo_scale apollo_proj apollo_proj_type apollo_scale_type apollo_layerwise
        apollo_scale_front use_badam badam_mode badam_start_block badam_switch_mode badam_switch_interval
        badam_update_ratio badam_mask_mode badam_verbose optim_target_modules""",
    "is not needed (the last whole checkpoint is found without it)": "resume_from_checkpoint",
    "leaves checkpoints from which a killed run cannot go on": "save_only_model enable_jit_checkpoint",
    "is switched off here always: it hides losses that are not finite": "logging_nan_inf_filter",
    "would stand in the manifest (use the environment: HF_TOKEN, SWANLAB_API_KEY)": """hf_hub_token ms_hub_token
        om_hub_token hub_token swanlab_api_key swanlab_lark_webhook_url swanlab_lark_secret""",
    "would run code from the hub": "trust_remote_code",
    "does nothing in the training of a judge": """infer_backend infer_dtype image_max_pixels image_min_pixels
        image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen use_audio_in_video
        audio_sampling_rate export_dir export_size export_device export_quantization_bit export_quantization_dataset
        export_quantization_nsamples export_quantization_maxlen export_legacy_format export_hub_model_id kt_weight_path
        kt_expert_checkpoint_path kt_use_lora_experts kt_lora_expert_num kt_lora_expert_intermediate_size vllm_maxlen
        vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank vllm_config sglang_maxlen sglang_mem_fraction sglang_tp_size
        sglang_config sglang_lora_backend media_dir eval_num_beams remove_unused_columns do_predict predict_with_generate
        sortish_sampler generation_max_length generation_num_beams generation_config ray_num_workers ray_init_kwargs
        master_addr master_port pref_beta pref_ftx pref_bco_weight pref_loss dpo_label_smoothing kto_chosen_weight
        kto_rejected_weight simpo_gamma ppo_buffer_size ppo_epochs ppo_score_norm ppo_target ppo_whiten_rewards ref_model
        ref_model_adapters ref_model_quantization_bit reward_model reward_model_adapters reward_model_quantization_bit
        reward_model_type ld_alpha do_sample temperature top_p top_k num_beams max_length max_new_tokens
        repetition_penalty length_penalty skip_special_tokens""",
}  # fmt: skip
REASONS = {name: reason for reason, names in REFUSED.items() for name in names.split()}
# Least value of a setting, where another ends in a traceback or in a training that does nothing.
LEAST = {
    "cutoff_len": 1, "max_samples": 1, "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1, "lora_rank": 1, "lora_alpha": 1, "save_total_limit": 1, "preprocessing_batch_size": 1,
    "preprocessing_num_workers": 1, "dataloader_num_workers": 0, "weight_decay": 0, "max_grad_norm": 0, "warmup_steps": 0,
    "lora_dropout": 0, "seed": 0, "data_seed": 0,
}  # fmt: skip
POSITIVE = ("learning_rate", "num_train_epochs", "logging_steps", "save_steps", "eval_steps")


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
    check_supported(args, where)
    files, entries = find_datasets(args, loss, where)
    model = models.resolve(str(args["model_name_or_path"]))
    tokenizer = check_template(str(args["template"]), model, where, args.get("enable_thinking", True))
    check_control_tokens(args, entries, tokenizer)

    settings = {key: value for key, value in args.items() if key not in PLACES}
    settings |= dataclasses.asdict(loss)
    settings |= {"world_size": int(os.environ.get("WORLD_SIZE", 1)), "datasets": entries}
    first = os.environ.get("RANK", "0") == "0"
    manifest = open_manifest(args, settings, files, {"judge": f"{model.name} ({model.source})"}, first)
    output = Path(args["output_dir"])
    if manifest and manifest.complete and has_weights(output):
        problem = weights_problem(output)
        if problem:
            raise UserError(f"{output}: {problem}; train anew with overwrite_output_dir=true ({ADVICE})")
        if first:
            print(f"{output}: trained already with these settings and data, nothing to do")
        return
    if manifest and manifest.complete and first:  # its weights are gone: until they are back it is not
        manifest.data["complete"] = False
        manifest.save()

    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.train import tuner
    from llamafactory.train.sft import workflow

    # The names through which LLaMA-Factory's SFT workflow finds what we replace.
    workflow.load_model = in_compute_dtype(workflow.load_model)
    cutoff_len = args.get("cutoff_len", 2048)
    workflow.CustomSeq2SeqTrainer = trainer_class(
        without_bar(workflow.CustomSeq2SeqTrainer), loss, cutoff_len=cutoff_len, row_name=row_names(args, entries)
    )
    # One training sample as text, in a run's log; upstream adds hundreds of token ids.
    SupervisedDatasetProcessor.print_data_example = lambda it, row: console.log(it.tokenizer.decode(row["input_ids"]))

    checkpoint = last_whole_checkpoint(output, say=first)
    if checkpoint and first:
        print(f"{output}: going on from {checkpoint.name}")
    no_cudnn_attention()
    handed = args | {
        "model_name_or_path": model.path,
        "cutoff_len": cutoff_len + ANSWER_TOKENS,  # upstream counts the answer too
        # We choose the checkpoint; LLaMA-Factory's own search would take a half-written one.
        "resume_from_checkpoint": str(checkpoint) if checkpoint else None,
        "overwrite_output_dir": True,
    }
    watch = make_watch(manifest if first else None, not args.get("disable_tqdm"))
    with refusals(recipe, watch, output), console.others_hidden():
        tuner.run_exp(handed, callbacks=[watch])
    if first:
        name_base_model(output, model.name)
        losses = [entry["loss"] for entry in watch.log if "loss" in entry]
        final = losses[-1] if losses else None  # finite: training_guard stops at the first one that is not
        manifest.finish(
            watch.rows,
            final_loss=final,
            steps=watch.steps,
            mean_loss=sum(losses) / len(losses) if losses else None,
        )
        seconds = manifest.data["wall_seconds"]
        shown = "not logged" if final is None else f"{final:.4f}"
        print(f"{output}: {watch.rows} pairs, {watch.steps} steps, final loss {shown}, {seconds:.0f} s")


def read_recipe(recipe: Path, overrides: list[str]) -> dict:
    """The YAML with the key=value overrides, values typed as LLaMA-Factory types them (1e-4 is a number); bf16: auto is decided."""
    if not recipe.is_file():
        raise UserError(f"{recipe}: no such file (a training recipe, like Offline/SmolLM2_lora_cpu.yaml)")
    yaml_files.read(recipe)  # names file and line of broken YAML
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
        args["bf16"] = runtime.has_bfloat16() if args.get("use_cpu") else runtime.gpu_has_bfloat16()
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
        return f"{recipe}:{yaml_files.line_of(recipe, key)}" if key in args else str(recipe)

    known: dict[str, typing.Any] = {field.name: None for field in dataclasses.fields(LossSettings)}
    defaults: dict[str, typing.Any] = {}
    for kind in (
        hparams.ModelArguments,
        hparams.DataArguments,
        hparams.TrainingArguments,
        hparams.FinetuningArguments,
        hparams.GeneratingArguments,
    ):
        hints = typing.get_type_hints(kind)
        known |= {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}
        defaults |= {field.name: field.default for field in dataclasses.fields(kind) if field.init}
    for key, value in args.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{where(key)}: unknown key {key!r}{hint}")
        wanted = type_problem(value, known[key]) or range_problem(key, value)
        if wanted:
            raise UserError(f"{where(key)}: {key} should be {wanted}, found {value!r}")
        if key in REASONS and value != defaults[key] and (value or defaults[key]):
            raise UserError(f"{where(key)}: {key} {REASONS[key]}; remove it")
        if key in defaults and key not in REASONS and key not in ACCEPTED:
            raise UserError(
                f"{where(key)}: {key} is new in this version of LLaMA-Factory or transformers; whether it changes "
                "the judge's loss, rows or prompt was not looked at: remove it"
            )
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


def range_problem(key: str, value: typing.Any) -> str | None:
    """What a number should be where it is out of its range, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value):
        return "finite"
    if key in LEAST and value < LEAST[key]:
        return f"at least {LEAST[key]}"
    if key in POSITIVE and value <= 0:
        return "above 0"
    if key == "max_steps" and value < 1 and value != -1:
        return "at least 1 (or -1: num_train_epochs says when to stop)"
    if key == "lora_dropout" and value >= 1:
        return "below 1"
    return None


def take_loss_settings(args: dict, where: typing.Callable[[str], str]) -> LossSettings:
    """Remove our keys from args (LLaMA-Factory refuses them). Raises UserError for a bad value."""
    names = [field.name for field in dataclasses.fields(LossSettings)]
    loss = LossSettings(**{name: args.pop(name) for name in names if name in args})
    problem = loss.problem()
    if problem:
        raise UserError(f"{where(problem[0])}: {problem[0]} {problem[1]}")
    return loss


def check_supported(args: dict, where: typing.Callable[[str], str]) -> None:
    """Refuse what several settings, or the environment, would do to the loss in silence."""
    if args.get("stage", "sft") != "sft" or not args.get("do_train", False):
        raise UserError(f"{where('stage')}: the judge is trained with stage: sft and do_train: true")
    if any(part in str(args.get("optim", "")) for part in ("lomo", "layerwise", "galore", "apollo")):
        raise UserError(
            f"{where('optim')}: optim {args['optim']!r} {REASONS['use_galore']}; take another, like adamw_torch"
        )
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


def find_datasets(args: dict, loss: LossSettings, where: typing.Callable) -> tuple[list[Path], dict]:
    """The files behind `dataset` and `eval_dataset`, checked row by row, and their registry entries.

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
        known = json.loads(registry.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{registry}:{error.lineno}: not valid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{registry}: not UTF-8 ({error})") from error
    if not isinstance(known, dict):
        raise UserError(f"{registry}: expected entries by name, found {type(known).__name__}")
    files, entries = [], {}
    for key in ("dataset", "eval_dataset"):
        for name in dataset_names(args.get(key)):
            if name not in known:
                raise UserError(f"{where(key)}: no entry {name!r} in {registry}; it has {', '.join(known)}")
            entries[name] = known[name]
            file = Path(folder) / check_entry(registry, name, known[name])
            if not file.is_file():
                raise UserError(f"{file}: no such file (entry {name!r} of {registry}); make the pairs first")
            check_rows(file, known[name], loss)
            files.append(file)
    evaluated = files[len(dataset_names(args.get("dataset"))) :]
    both = problem_ids(files[: len(files) - len(evaluated)]) & problem_ids(evaluated) if evaluated else set()
    if both:
        raise UserError(
            f"{where('eval_dataset')}: {len(both)} problems stand in dataset and eval_dataset, {min(both)} for one; "
            "evaluate on problems that the judge is not trained on"
        )
    return files, entries


def problem_ids(files: list[Path]) -> set[str]:
    """The problems of stage 02's rows; rows of others may not say."""
    return {
        row["problem_id"] for file in files for _, row in jsonl.read(file) if isinstance(row.get("problem_id"), str)
    }


def dataset_names(value: typing.Any) -> list[str]:
    """The names in `dataset` or `eval_dataset`: a list, or text with commas."""
    return [str(name).strip() for name in (value.split(",") if isinstance(value, str) else value or [])]


def check_entry(registry: Path, name: str, entry: typing.Any) -> str:
    """The file of a registry's entry. Raises UserError for an entry whose rows would not all be read as they stand."""
    where = f"{registry}: entry {name!r}"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        raise UserError(f"{where} has no file_name (a local file)")
    if not entry["file_name"].endswith(".jsonl"):
        raise UserError(
            f"{where}: file_name should be a .jsonl file, whose rows are checked line by line, found {entry['file_name']!r}"
        )
    if entry.get("formatting", "alpaca") != "alpaca":
        raise UserError(f"{where}: formatting should be alpaca, as stage 02 writes it, found {entry['formatting']!r}")
    other = sorted(set(entry) - {"file_name", "formatting", "columns"})
    if other:
        raise UserError(f"{where}: remove {', '.join(other)}: every row is read once, as it stands")
    columns = entry.get("columns", {})
    if not isinstance(columns, dict) or not all(isinstance(column, str) for column in columns.values()):
        raise UserError(f"{where}: columns should map system, prompt, query and response to columns of the rows")
    if set(columns) - {"system", "prompt", "query", "response"} or "system" not in columns:
        raise UserError(
            f"{where}: columns should be system, prompt, query and response, found {', '.join(columns) or 'none'}"
        )
    return entry["file_name"]


def row_names(args: dict, entries: dict) -> typing.Callable[[int], str]:
    """Position in the training data -> pair id, file and line. The files are read at the first call."""
    names: list[str] = []

    def name(index: int) -> str:
        if not names:
            for entry in (entries[n] for n in dataset_names(args["dataset"])):
                file = Path(args.get("dataset_dir", "data")) / entry["file_name"]
                for number, row in itertools.islice(jsonl.read(file), args.get("max_samples")):
                    names.append(
                        f"pair {row['pair_id']} of {file.name}:{number}"
                        if "pair_id" in row
                        else f"{file.name}:{number}"
                    )
        return names[index]

    return name


def check_template(
    template: str, model: models.ResolvedModel, where: typing.Callable[[str], str], enable_thinking: bool = True
) -> typing.Any:
    """Refuse a template whose prompt is not, token for token, the one that evaluation and clustering will ask.

    Returns the model's tokenizer. Raises UserError that names the templates that fit the model.
    """
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where('model_name_or_path')}: {model.name}: its tokenizer cannot be loaded: {error}"
        ) from error
    sample = ("What is 1 + 1?", "We add\n\n1 and 1", "The sum", 1)
    row = prompts.training_row(*sample)
    try:
        wanted = prompts.prompt_ids(tokenizer, *sample[:3])
    except UserError as error:  # no chat template, or one that takes no question
        raise UserError(f"{where('model_name_or_path')}: {error}") from error
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]

    def writes(name: str, thinking: bool) -> list[int]:
        built = copy.copy(TEMPLATES[name])
        built.enable_thinking = thinking
        try:
            return built.encode_oneturn(tokenizer, turns, row["system"])[0]
        except (ValueError, TypeError, AttributeError, RuntimeError):  # a template for another kind of tokenizer
            return []

    if template not in TEMPLATES or writes(template, enable_thinking) != wanted:
        fitting = [name for name in sorted(TEMPLATES) if writes(name, True) == wanted]
        fitting += [
            f"{name} with enable_thinking=false"
            for name in sorted(TEMPLATES)
            if name not in fitting and writes(name, False) == wanted
        ]
        raise UserError(
            f"{where('template')}: template {template!r} does not write the prompt as {model.name}'s own chat template "
            f"does, so the judge would be asked otherwise than it was trained; fitting: {', '.join(fitting) or 'none'}"
        )
    return tokenizer


def check_control_tokens(args: dict, entries: dict, tokenizer: typing.Any) -> None:
    """Refuse rows with a control token in their text: training would obey it, evaluation asks it as mere text."""
    for entry in entries.values():
        file = Path(args.get("dataset_dir", "data")) / entry["file_name"]
        columns = entry.get("columns", {})
        for number, row in jsonl.read(file):
            for column in (columns.get("prompt", "instruction"), columns.get("query", "input")):
                text = row.get(column) or ""
                if prompts.plain(text, tokenizer) != text:
                    raise UserError(
                        f"{file}:{number}: a control token of the model stands in {column!r}: make the pairs again (stage 02, "
                        "--tokenizer of this model), which breaks it up as evaluation does"
                    )


def check_rows(file: Path, entry: dict, loss: LossSettings) -> None:
    """Every row has the registry's columns, and answers with a label in scope 'label'; else UserError."""
    columns = entry.get("columns", {})
    prompt, response = columns.get("prompt", "instruction"), columns.get("response", "output")
    rows = 0
    for number, row in jsonl.read(file):
        rows += 1
        for column in {prompt, response, *columns.values()}:
            if not isinstance(row.get(column), str):
                raise UserError(f"{file}:{number}: a training row needs the text field {column!r}")
        answer = row[response]
        if loss.focal_loss_scope == "label" and answer not in prompts.LABELS:
            raise UserError(f"{file}:{number}: {response!r} should be {' or '.join(prompts.LABELS)}, found {answer!r}")
    if not rows:
        raise UserError(f"{file}: no training rows")


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


def last_whole_checkpoint(output: Path, say: bool = True) -> Path | None:
    """The newest checkpoint with a trainer state, the last file that a checkpoint gets, and finite weights.

    None: start anew. say: print why a checkpoint is passed over.
    """
    whole = [p.parent for p in output.glob("checkpoint-*/trainer_state.json") if readable(p)]
    for checkpoint in sorted(whole, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        problem = weights_problem(checkpoint)
        if problem is None:
            return checkpoint
        if say:
            print(f"{checkpoint}: passed over: {problem}")
    return None


def readable(state: Path) -> bool:
    try:
        return bool(json.loads(state.read_text()))
    except ValueError:
        return False


REFUSALS = (ValueError, TypeError, ImportError, AssertionError, AttributeError, RuntimeError, OSError)


@contextlib.contextmanager
def refusals(recipe: Path, watch: typing.Any, output: Path | None = None) -> typing.Iterator[None]:
    """What is raised before the first step is about the settings or the model: one clear line. Later it is a fault: a traceback;
    save for a full disk, which is one line whenever it comes. However it ends, the progress bar's line is closed first.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # SafetensorError is nothing else
        trouble = storage_trouble(error, output or ".", *places())
        if trouble:
            raise UserError(
                f"{trouble}; the last whole checkpoint is kept, the same command goes on from it"
            ) from error
        if watch.begun or not isinstance(error, REFUSALS):
            raise
        kind = type(error).__name__
        raise UserError(f"{recipe}: LLaMA-Factory refuses these settings or this model: {kind}: {error}") from error
    finally:
        watch.close()


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


def no_cudnn_attention() -> None:
    """Leave cuDNN out of sdpa's choices on a GPU: flash and memory-efficient attention stay.

    On H100 and H200 its backward pass gives NaN for some lengths (those that are 64 above a multiple of 128, with a
    mask) in bfloat16, torch 2.11 to 2.13: pytorch/pytorch issue 196678, found through Qwen2.5-0.5B in huggingface/trl
    issue 7181. Read, not tried by us: the recipes for GPUs take eager attention, which was seen to train well.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def without_bar(base: type) -> type:
    """A subclass of a Trainer that draws no bar and prints no log: `make_watch` does."""
    from transformers import PrinterCallback, ProgressCallback

    class Silent(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            for shown in (PrinterCallback, ProgressCallback):
                self.remove_callback(shown)

    return Silent


def make_watch(manifest: Manifest | None, draw: bool = True):
    """A trainer callback that draws the progress bar, keeps the log for the manifest, and at each save the time spent so far.

    manifest: of the rank that writes; None on the others, which draw nothing.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        log, rows, steps, begun, bar = [], 0, 0, False, None

        def on_train_begin(self, args, state, control, **kwargs):
            dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
            self.rows = len(dataset) if hasattr(dataset, "__len__") else 0
            if manifest and draw:
                self.bar = progress.bar(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

        def on_step_begin(self, args, state, control, **kwargs):
            self.begun = True

        def on_step_end(self, args, state, control, **kwargs):
            if self.bar:
                self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args, state, control, logs=None, **kwargs):
            if manifest:
                console.log(str(logs))
            if self.bar and "loss" in (logs or {}):
                self.bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

        def on_save(self, args, state, control, **kwargs):
            if manifest:
                now = time.monotonic()
                manifest.data["wall_seconds"] += round(now - manifest.started, 1)
                manifest.started = now
                manifest.data["complete"] = False
                manifest.save()

        def on_train_end(self, args, state, control, **kwargs):
            self.log, self.steps = state.log_history, state.global_step
            self.close()

        def close(self):
            if self.bar:
                self.bar.close()
                self.bar = None

    return Watch()


def name_base_model(output: Path, name: str) -> None:
    """In an adapter's config, the model as the user named it instead of a cache folder of this machine."""
    file = output / "adapter_config.json"
    if file.is_file():
        adapter = json.loads(file.read_text())
        jsonl.write_json(file, adapter | {"base_model_name_or_path": name}, indent=2)


if __name__ == "__main__":
    runtime.ensure()  # its allocator and thread library train faster too
    main()

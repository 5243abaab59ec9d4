"""A training recipe: a LLaMA-Factory YAML with key=value overrides and our own keys, checked before anything loads."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any

from deepprune.base import config, runtime, yaml_files
from deepprune.base.errors import UserError
from deepprune.judges.training.focal_loss import LossSettings
from deepprune.judges.training.keys import ACCEPTED, LEAST, POSITIVE, REASONS

NEEDED = ("model_name_or_path", "template", "dataset", "output_dir", "finetuning_type")
PLACES = ("output_dir", "overwrite_output_dir", "model_name_or_path", "dataset_dir", "resume_from_checkpoint")


@dataclasses.dataclass
class Recipe:
    """args: LLaMA-Factory's keys and, until `check` has taken them out, ours; overridden: keys of the command line."""

    file: Path
    args: dict[str, Any]
    overridden: set[str]
    loss: LossSettings = dataclasses.field(default_factory=LossSettings)
    judge_profile: str | None = None  # our key, as the loss's are: the file of the judge's profile

    @classmethod
    def read(cls, file: Path, overrides: list[str]) -> Recipe:
        """The YAML with the key=value overrides, values typed as LLaMA-Factory types them (1e-4 is a number).

        bf16: auto is decided. Raises UserError.
        """
        if not file.is_file():
            raise UserError(f"{file}: no such file (a training recipe, like Offline/SmolLM2_lora_cpu.yaml)")
        yaml_files.read(file)  # names file and line of broken YAML
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        for item in overrides:
            if "=" not in item.lstrip("-") or item.startswith("-"):
                raise UserError(f"expected key=value after {file}, found {item!r}")
        try:
            merged = OmegaConf.merge(OmegaConf.load(file), OmegaConf.from_cli(overrides))
            args = OmegaConf.to_container(merged, resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(f"{file}: {error}") from error
        if args.get("bf16") == "auto":
            args["bf16"] = runtime.has_bfloat16() if args.get("use_cpu") else runtime.gpu_has_bfloat16()
        return cls(file, args, {item.partition("=")[0].split(".")[0] for item in overrides})

    def where(self, key: str) -> str:
        """Where a key stands, for a message: file and line, or the command line."""
        if key in self.overridden:
            return "command line"
        return f"{self.file}:{yaml_files.line_of(self.file, key)}" if key in self.args else str(self.file)

    @property
    def output(self) -> Path:
        return Path(self.args["output_dir"])

    @property
    def cutoff_len(self) -> int:
        """The longest judge prompt in tokens."""
        return self.args.get("cutoff_len", 2048)

    def settings(self) -> dict[str, Any]:
        """What makes the judge what it is; where things lie does not."""
        args = {key: value for key, value in self.args.items() if key not in PLACES}
        return args | dataclasses.asdict(self.loss) | {"world_size": int(os.environ.get("WORLD_SIZE", 1))}

    def check(self) -> None:
        """Check every key, and take ours out of args. Raises UserError naming file and line."""
        self.check_keys()
        self.take_ours()
        self.check_supported()

    def check_keys(self) -> None:
        """Check every key and the type of its value before LLaMA-Factory does, to name file and line."""
        hints, defaults = upstream_fields()
        known = {field.name: None for field in dataclasses.fields(LossSettings)} | {"judge_profile": None} | hints
        for key, value in self.args.items():
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise UserError(f"{self.where(key)}: unknown key {key!r}{hint}")
            wanted = type_problem(value, known[key]) or range_problem(key, value)
            if wanted:
                raise UserError(f"{self.where(key)}: {key} should be {wanted}, found {value!r:.60}")
            if key in REASONS and value != defaults[key] and (value or defaults[key]):
                raise UserError(f"{self.where(key)}: {key} {REASONS[key]}; remove it")
            if key in defaults and key not in REASONS and key not in ACCEPTED:
                raise UserError(
                    f"{self.where(key)}: {key} is new in this version of LLaMA-Factory or transformers; whether it "
                    "changes the judge's loss, rows or prompt was not looked at: remove it"
                )
        for key in NEEDED:
            if not self.args.get(key):
                raise UserError(f"{self.where(key)}: {key} is required")

    def take_ours(self) -> None:
        """Move our keys from args, as LLaMA-Factory refuses them. Raises UserError for a bad value."""
        names = [field.name for field in dataclasses.fields(LossSettings)]
        self.loss = LossSettings(**{name: self.args.pop(name) for name in names if name in self.args})
        problem = self.loss.problem()
        if problem:
            raise UserError(f"{self.where(problem[0])}: {problem[0]} {problem[1]}")
        self.judge_profile = self.args.pop("judge_profile", None)

    def check_supported(self) -> None:
        """Refuse what several settings, or the environment, would do to the loss in silence."""
        args = self.args
        if args.get("stage", "sft") != "sft" or not args.get("do_train", False):
            raise UserError(f"{self.where('stage')}: the judge is trained with stage: sft and do_train: true")
        if any(part in str(args.get("optim", "")) for part in ("lomo", "layerwise", "galore", "apollo")):
            why = REASONS["use_galore"]
            raise UserError(f"{self.where('optim')}: optim {args['optim']!r} {why}; take another, like adamw_torch")
        for name in ("USE_RAY", "USE_MCA"):
            if os.environ.get(name, "0").lower() in ("1", "true"):
                raise UserError(f"{name} is set: its workers would not see our loss; use torchrun instead")
        deepspeed = args.get("deepspeed")
        if isinstance(deepspeed, str):
            where = self.where("deepspeed")
            if not Path(deepspeed).is_file():
                raise UserError(f"{where}: no such file: {deepspeed} (run from the repository's root)")
            if "LOCAL_RANK" not in os.environ:
                launch = f"torchrun --nproc-per-node <GPUs> {' '.join(sys.argv)}"
                raise UserError(f"{where}: DeepSpeed needs a launcher: {launch}")


def upstream_fields() -> tuple[dict[str, Any], dict[str, Any]]:
    """(types, defaults) of all settings of the installed LLaMA-Factory and transformers, by key."""
    from llamafactory import hparams

    hints, defaults = {}, {}
    for part in ("Model", "Data", "Training", "Finetuning", "Generating"):
        kind = getattr(hparams, f"{part}Arguments")
        types_of = typing.get_type_hints(kind)
        fields = [field for field in dataclasses.fields(kind) if field.init]
        hints |= {field.name: types_of[field.name] for field in fields}
        defaults |= {field.name: field.default for field in fields}
    return hints, defaults


def type_problem(value: Any, hint: Any) -> str | None:
    """What a value should be by its field's type, or None if it fits (or cannot be told)."""
    if hint is None or value is None:
        return None
    parts = [hint]
    while any(typing.get_origin(p) in (typing.Union, types.UnionType) for p in parts):
        parts = [a for p in parts for a in (typing.get_args(p) or (p,))]
    if isinstance(value, (dict, list)):
        scalar = {int, float, bool, type(None)}.issuperset(parts)
        return " or ".join(p.__name__ for p in parts if p is not type(None)) if scalar else None
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


def most_of(key: str, kind: type) -> float:
    """The largest value that a setting takes."""
    if key in ("seed", "data_seed"):
        return config.LARGEST_SEED
    return config.LARGEST_WHOLE if kind is int else config.LARGEST


def range_problem(key: str, value: Any) -> str | None:
    """What a number should be where it is out of its range, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    if value > (most := most_of(key, type(value))):
        return f"at most {most:,.0f}"
    if key in LEAST and value < LEAST[key]:
        return f"at least {LEAST[key]}"
    if key in POSITIVE and value <= 0:
        return "above 0"
    if key == "max_steps" and value < 1 and value != -1:
        return "at least 1 (or -1: num_train_epochs says when to stop)"
    if key == "lora_dropout" and value >= 1:
        return "below 1"
    return None

"""Opening a judge by its kind, and what a manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepprune.base import console, registry
from deepprune.base.errors import UserError
from deepprune.judges import profiles
from deepprune.judges.interface import Judge
from deepprune.judges.leaks import leak_of
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile
from deepprune.judges.registry import KINDS, Kind
from deepprune.judges.settings import JudgeOptions


def _kind(kind: str, model: str | None) -> Kind:
    if kind not in KINDS:
        raise UserError(f"unknown judge {kind!r}; judges are {', '.join(KINDS)}")
    if KINDS[kind].needs_model and not model:
        raise UserError(f"judge {kind!r} needs a model: give --model (a folder, a LoRA adapter folder or a hub id)")
    return KINDS[kind]


def name_of(kind: str, model: str | None = None, seed: int = 0) -> str:
    """The name that a judge will have in records, known before it is opened (no weights are loaded)."""
    known = _kind(kind, model)
    if not known.needs_model:
        return f"{known.named}-{seed}" if known.seeded else known.named
    from deepprune.judges.weights import identify

    return known.named + identify(model).name


def folder_of(model: str) -> str:
    """Folder of a judge model's full weights (an adapter is merged) and tokenizer."""
    from deepprune.judges.weights import prepare

    return prepare(model)[1]


def parameters_of(kind: str, model: str | None = None) -> int | None:
    """A judge's parameters, known without opening it; 0 for judges that are not models, None if unknown."""
    known = _kind(kind, model)
    if not known.needs_model:
        return 0
    from deepprune.engines import models

    return models.parameters(models.resolve(model).path if known.per_trace or known.classifies else folder_of(model))


def profile_of(kind: str, model: str | None = None, judge_profile: str | None = None) -> Profile:
    """How a judge is asked: profiles.profile_of; ours for kinds that are not asked with a prompt."""
    known = _kind(kind, model)
    if judge_profile and not known.asked:
        raise UserError(f"--judge-profile is of judges that are asked with its texts: judge {kind!r} is not")
    default = profiles.CLASSIFIER if known.classifies else profiles.DEFAULT
    return profiles.profile_of(model, judge_profile, default) if known.asked else default


def prompts_of(model: str, judge_profile: str | None = None) -> PairPrompts:
    """A judge's prompts in its own tokens, known without opening it."""
    from transformers import AutoTokenizer

    return PairPrompts(profiles.profile_of(model, judge_profile), AutoTokenizer.from_pretrained(folder_of(model)))


def describe(kind: str, model: str | None = None, seed: int = 0, judge_profile: str | None = None) -> dict[str, Any]:
    """What a manifest says of a judge before its first score.

    name, sha256 of all its weights, source, parameters, prompt_version (its profile's). sha256 and source are None for
    judges that are not models; parameters are None if unknown, 0 for those alone. leak: what a published judge is known
    to have been trained on, which is printed too.
    """
    described = {"name": name_of(kind, model, seed), "sha256": None, "source": None, "parameters": 0}
    if KINDS[kind].needs_model:
        from deepprune.judges.weights import identify

        known = identify(model)
        described |= {"sha256": known.sha256, "source": known.source, "parameters": parameters_of(kind, model)}
    leak = leak_of(described["name"])
    if leak:
        print(leak, file=console.errors())
        described["leak"] = leak
    return described | {"prompt_version": profile_of(kind, model, judge_profile).version}


def note(manifest: Any, described: Mapping[str, Any]) -> None:
    """Put what `describe` says of the judge into a Manifest, which is written with the first row."""
    mass_before = (manifest.data.get("judge") or {}).get("label_mass")
    manifest.data["judge"] = {**described, "label_mass": mass_before}
    manifest.data["judge_parameters"] = described["parameters"]


def note_mass(manifest: Any, label_mass: Mapping[str, float] | None) -> None:
    """Write a judge's label_mass into a Manifest that `note` has seen, if it is new there."""
    if label_mass is not None and manifest.data["judge"]["label_mass"] != label_mass:
        manifest.data["judge"]["label_mass"] = dict(label_mass)
        manifest.save()


def open_judge(kind: str, model: str | None = None, settings: Any = None, **changes: Any) -> Judge:
    """Open a judge by kind (registry.KINDS); kinds that need a model take a folder, a LoRA adapter folder or a hub id.

    settings: a stage's, of which the fields of JudgeOptions are read; changes: what differs from them.
    Raises UserError for an unknown kind, or for one whose model or URL is not given.
    """
    known = _kind(kind, model)
    options = JudgeOptions.of(settings, **changes)
    if known.needs_url and not options.judge_url:
        raise UserError(f"judge {kind!r} needs the URL of a running server: give --judge-url")
    if options.engine_args and not known.needs_vllm:
        raise UserError(f"--engine-args are of vLLM's engine: judge {kind!r} has none in this process")
    judge = registry.load(known.where)(model, options)
    judge.least_label_mass = options.least_label_mass
    return judge

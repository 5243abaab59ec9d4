"""Settings of a live run, and the reasoner and judge that they ask for. Shared by the script and the benchmark."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from deepprune import judges
from deepprune.base import arguments, config, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.data.confidence import Windows
from deepprune.data.sampling import SamplingSettings, check_context
from deepprune.engines.reasoners import EngineReasoner, FleetReasoner, Reasoner, ServerReasoner
from deepprune.judges import calibration
from deepprune.judges.calibration import Calibration
from deepprune.prune import live_options
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.live_options import MethodSettings
from deepprune.prune.live_traces import NO_JUDGE, ON_JUDGE_FAILURE, LiveSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.rules import CutSettings, RuleSettings

calibration_of = functools.cache(calibration.of)  # a judge without one is told of once


@dataclasses.dataclass
class JudgedSettings(RuleSettings):
    """Of methods that need a judge."""

    judge: str = setting("vllm", "kind of judge", choices=judges.kinds(needs_labels=False))
    judge_model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    judge_served_model: str | None = setting(
        None, "the judge's servers: which of the models that they offer (default: the first)", free=True
    )
    tokenizer: str | None = setting(None, "truncation by tokens: model whose tokenizer cuts (default: the reasoner's)")
    asks: str = config.like(ClusterSettings, "asks", "needed")
    judge_memory: float = setting(
        0.3, "engines on a GPU: share of its memory for the judge", free=True, above=0, at_most=1
    )
    judge_dtype: str = config.dtype("engines: the judge's weights' type", "judge_url")
    judge_profile: str | None = config.like(judges.JudgeSettings, "judge_profile")
    other_truncation: bool = config.like(judges.JudgeSettings, "other_truncation")
    least_label_mass: float = config.like(judges.JudgeSettings, "least_label_mass")

    def judged_by(self) -> tuple[str, str | None]:
        return self.judge, self.judge_model

    def calibration(self) -> Calibration:
        """What the judge's p_same is worth."""
        return calibration_of(self.judge, self.judge_model)


@dataclasses.dataclass
class ConfidenceSettings:
    """Of methods that look at the tokens' confidence."""

    confidence_top_k: int = setting(Windows.top_k, "log-probabilities averaged a token", at_least=1)
    confidence_window: int = setting(Windows.window, "tokens in a confidence window", at_least=1)
    confidence_stride: int = setting(Windows.stride, "look at a window's mean every so many tokens", at_least=1)


@dataclasses.dataclass
class SourceSettings(MethodSettings, ConfidenceSettings, JudgedSettings, SamplingSettings, judges.JudgeServerSettings):
    """Of whatever answers questions live: its reasoner and judge."""

    reasoner: str = setting(
        config.REQUIRED, "the reasoner's model: folder or hub id (its tokenizer, with --reasoner-url)"
    )
    reasoner_url: list[str] = setting(
        [],
        "vLLM servers of the reasoner, as http://127.0.0.1:8000/v1; several share the work",
        free=True,
        is_url=True,
    )
    reasoner_name: str | None = setting(None, "name to record instead of --reasoner (for local folders)")
    max_num_seqs: int = setting(64, "traces generated at once, over all questions", free=True, at_least=1)
    system: str | None = setting(None, "system message")
    suffix: str = setting(
        "\n\nThink step by step, then give the final answer in \\boxed{}.", "appended to each question"
    )
    reasoner_memory: float = setting(
        0.6, "engines on a GPU: share of its memory for the reasoner", free=True, above=0, at_most=1
    )
    dtype: str = config.dtype("engines: the reasoner's weights' type", "reasoner_url")
    max_model_len: int | None = setting(
        None, "context length in tokens of both engines (default: the models')", free=True, at_least=2
    )
    engine_args: list[str] = setting(
        [], "further arguments of the reasoner's vLLM engine, as NAME=VALUE, passed on unread"
    )


@dataclasses.dataclass
class LivePruneSettings(SourceSettings):
    method: str = setting("deepprune", "how a question is answered", choices=METHODS)
    output: str | None = setting(None, "JSONL file of Pruning records (not needed with --question)", ends=config.JSONL)
    problems: list[str] = setting([], "JSONL files of Problem records")
    question: str | None = setting(None, "one question instead of --problems")
    n: int = setting(64, "most traces a question", at_least=1)
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True, at_least=1)
    questions: int = setting(4, "questions in progress at once", free=True, at_least=1)
    on_judge_failure: str = setting(
        "stop", "the judge is lost: stop, or finish every trace and vote", choices=ON_JUDGE_FAILURE, free=True
    )
    overwrite: bool = setting(False, "replace an existing output")

    @property
    def judged(self) -> bool:
        """Whether the method needs a judge."""
        return METHODS[self.method].needs_judge

    def scale(self) -> Calibration | None:
        return super().scale() if METHODS[self.method].needs_judge else None

    def not_used(self) -> set[str]:
        """The names of the settings that the method has no use for."""
        others = {name for method in METHODS if method != self.method for name in live_options.own(method)}
        cut, rules, judge, confidence = (
            {field.name for field in dataclasses.fields(kind)}
            for kind in (CutSettings, RuleSettings, JudgedSettings, ConfidenceSettings)
        )
        kind = METHODS[self.method]
        needs = [(kind.clusters, rules - cut - {"seed"}), (kind.needs_confidence, confidence)]
        needs.append((kind.needs_judge, judge - {"seed"} | {"judge_url", "on_judge_failure"}))
        return others.union(*(names for needed, names in needs if not needed))

    def made_from(self, prompt_version: str | None) -> dict[str, Any]:
        """The settings that tell what an output is, for its manifest: those that the method uses."""
        skip = self.not_used() | {"problems", "judge_model"}  # these are known by what they hold
        skip |= set() if self.judged else {"prompt_version"}
        skip |= set() if self.deepprune_early else {"deepprune_early"}  # outputs of before it was there go on
        return {name: value for name, value in super().made_from(prompt_version).items() if name not in skip}


def check(settings: LivePruneSettings) -> None:
    """Raise UserError for settings that do not go together; start the process again if vLLM needs it."""
    unused = unused_of_recipe(settings)
    check_sources(settings)
    live_options.options(settings.method, settings)
    if unused:
        print(unused)
    if METHODS[settings.method].clusters:
        print(f"clusters by {settings.reads()}")


def check_sources(settings: SourceSettings) -> None:
    """Raise UserError for a reasoner or judge that cannot be; start the process again if vLLM needs it."""
    settings.template_args(), arguments.of_engine(settings.engine_args)
    if settings.reasoner_url and settings.engine_args:
        raise UserError("--engine-args are of an engine in this process, not of --reasoner-url")
    if not settings.reasoner_url:
        check_context(settings.max_tokens, settings.max_model_len)
    if settings.judged:
        check_judge(settings)
    if not settings.reasoner_url or settings.judged and judges.KINDS[settings.judge].needs_vllm:
        runtime.ensure()


def unused_of_recipe(settings: LivePruneSettings) -> str:
    """A line on the recipe's settings that the method has no use for, or ''. Raises UserError for such options."""
    given = vars(settings).get("given", {})
    unused = {name: given[name] for name in sorted(settings.not_used() & given.keys())}
    options = [where for where in unused.values() if where.startswith("--")]
    if options:
        raise UserError(f"the method {settings.method} has no use for {', '.join(options)} (--help says what has)")
    recipes = "".join(set(unused.values()))
    return f"{recipes}: the method {settings.method} has no use for {', '.join(unused)}" if unused else ""


def check_judge(settings: LivePruneSettings) -> None:
    """Raise UserError for a judge that does not go with the other settings."""
    settings.judge = settings.kind_of_judge(settings.judge)
    if runtime.has_gpu() and not settings.reasoner_url and judges.KINDS[settings.judge].needs_vllm:
        if settings.reasoner_memory + settings.judge_memory > 1:
            raise UserError(
                f"--reasoner-memory {settings.reasoner_memory} and --judge-memory {settings.judge_memory} are more "
                "than one GPU's memory"
            )
    profile = judges.profile_of(settings.judge, settings.judge_model, settings.judge_profile)
    profile.check_truncation([settings.cut().as_dict()], settings.other_truncation)


def one_server(settings: LivePruneSettings) -> bool:
    """Whether the judge is on the reasoner's own servers."""
    reasoner, judge = ({url.rstrip("/") for url in urls} for urls in (settings.reasoner_url, settings.judge_url))
    return bool(judge) and judge <= reasoner


def describe_judge(settings: LivePruneSettings) -> dict[str, Any]:
    """judges.describe of the judge, known without opening it; of a method without one its name ('none') and size."""
    if not settings.judged:
        return {"name": NO_JUDGE, "parameters": 0, "prompt_version": None}
    return judges.describe(settings.judge, settings.judge_model, settings.seed, settings.judge_profile)


def how(settings: LivePruneSettings) -> LiveSettings:
    """The settings as the driver takes them."""
    return LiveSettings(
        settings.n,
        settings.cut(),
        settings.method,
        live_options.options(settings.method, settings),
        settings.sampling(),
        settings.suffix,
        settings.system,
        settings.on_judge_failure,
        settings.seed,
        template=settings.template_args(),
        windows=Windows(settings.confidence_top_k, settings.confidence_window, settings.confidence_stride),
    )


def open_reasoner(settings: LivePruneSettings) -> Reasoner:
    if settings.reasoner_url:
        model, name = settings.reasoner, settings.reasoner_name
        return FleetReasoner([ServerReasoner(url, model, settings, name=name) for url in settings.reasoner_url])
    return EngineReasoner(
        settings.reasoner,
        name=settings.reasoner_name,
        seed=settings.seed,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        gpu_memory_utilization=settings.reasoner_memory,
        engine_args=arguments.of_engine(settings.engine_args),
    )


def open_judge(settings: LivePruneSettings) -> judges.Judge:
    return judges.open_judge(
        settings.judge,
        settings.judge_model,
        settings,
        dtype=settings.judge_dtype,
        gpu_memory_utilization=settings.judge_memory,
        served_model=settings.judge_served_model,
        engine_args=[],
        batch=judges.JudgeOptions.batch,
    )

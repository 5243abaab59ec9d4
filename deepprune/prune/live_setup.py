"""Settings of a live run, and the reasoner and judge that they ask for. Shared by the script and the benchmark."""

from __future__ import annotations

import dataclasses
from typing import Any

from deepprune import judges
from deepprune.base import config, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.data.sampling import SamplingSettings, check_context
from deepprune.engines.reasoners import EngineReasoner, FleetReasoner, Reasoner, ServerReasoner
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.live_traces import ON_JUDGE_FAILURE, LiveSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings
from deepprune.prune.rules import RuleSettings


@dataclasses.dataclass
class LivePruneSettings(RuleSettings, SamplingSettings, judges.JudgeServerSettings):
    reasoner: str = setting(
        config.REQUIRED, "the reasoner's model: folder or hub id (its tokenizer, with --reasoner-url)"
    )
    output: str | None = setting(None, "JSONL file of Pruning records (not needed with --question)", ends=config.JSONL)
    problems: list[str] = setting([], "JSONL files of Problem records")
    question: str | None = setting(None, "one question instead of --problems")
    judge: str = setting("vllm", "kind of judge", choices=judges.kinds(needs_labels=False))
    judge_model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")
    reasoner_url: list[str] = setting(
        [],
        "vLLM servers of the reasoner, as http://127.0.0.1:8000/v1; several share the work",
        free=True,
        is_url=True,
    )
    judge_served_model: str | None = setting(
        None, "the judge's servers: which of the models that they offer (default: the first)", free=True
    )
    reasoner_name: str | None = setting(None, "name to record instead of --reasoner (for local folders)")
    n: int = setting(64, "traces a question", at_least=1)
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", free=True, at_least=1)
    questions: int = setting(4, "questions in progress at once", free=True, at_least=1)
    max_num_seqs: int = setting(64, "traces generated at once, over all questions", free=True, at_least=1)
    system: str | None = setting(None, "system message")
    suffix: str = setting(
        "\n\nThink step by step, then give the final answer in \\boxed{}.", "appended to each question"
    )
    tokenizer: str | None = setting(None, "truncation by tokens: model whose tokenizer cuts (default: the reasoner's)")
    asks: str = config.like(ClusterSettings, "asks", "needed")
    on_judge_failure: str = setting(
        "stop", "the judge is lost: stop, or finish every trace and vote", choices=ON_JUDGE_FAILURE, free=True
    )
    reasoner_memory: float = setting(
        0.6, "engines on a GPU: share of its memory for the reasoner", free=True, above=0, at_most=1
    )
    judge_memory: float = setting(
        0.3, "engines on a GPU: share of its memory for the judge", free=True, above=0, at_most=1
    )
    dtype: str = config.dtype("engines: the reasoner's weights' type")
    judge_dtype: str = config.dtype("engines: the judge's weights' type")
    max_model_len: int | None = setting(
        None, "context length in tokens of both engines (default: the models')", free=True, at_least=2
    )
    engine_args: list[str] = setting(
        [], "further arguments of the reasoner's vLLM engine, as NAME=VALUE, passed on unread"
    )
    judge_profile: str | None = config.like(judges.JudgeSettings, "judge_profile")
    other_truncation: bool = config.like(judges.JudgeSettings, "other_truncation")
    least_label_mass: float = config.like(judges.JudgeSettings, "least_label_mass")
    overwrite: bool = setting(False, "replace an existing output")


def check(settings: LivePruneSettings) -> None:
    """Raise UserError for settings that do not go together; start the process again if vLLM needs it."""
    settings.judge = settings.kind_of_judge(settings.judge)
    settings.template_args(), config.arguments("--engine-args", settings.engine_args)
    if settings.reasoner_url and settings.engine_args:
        raise UserError("--engine-args are of an engine in this process, not of --reasoner-url")
    if not settings.reasoner_url:
        check_context(settings.max_tokens, settings.max_model_len)
    if runtime.has_gpu() and not settings.reasoner_url and judges.KINDS[settings.judge].needs_vllm:
        if settings.reasoner_memory + settings.judge_memory > 1:
            raise UserError(
                f"--reasoner-memory {settings.reasoner_memory} and --judge-memory {settings.judge_memory} are more "
                "than one GPU's memory"
            )
    profile = judges.profile_of(settings.judge, settings.judge_model, settings.judge_profile)
    profile.check_truncation([settings.cut().as_dict()], settings.other_truncation)
    if not settings.reasoner_url or judges.KINDS[settings.judge].needs_vllm:
        runtime.ensure()


def one_server(settings: LivePruneSettings) -> bool:
    """Whether the judge is on the reasoner's own servers."""
    reasoner, judge = ({url.rstrip("/") for url in urls} for urls in (settings.reasoner_url, settings.judge_url))
    return bool(judge) and judge <= reasoner


def describe_judge(settings: LivePruneSettings) -> dict[str, Any]:
    """judges.describe of the judge, known without opening it."""
    return judges.describe(settings.judge, settings.judge_model, settings.seed, settings.judge_profile)


def how(settings: LivePruneSettings) -> LiveSettings:
    """The settings as the driver takes them."""
    return LiveSettings(
        settings.n,
        settings.cut(),
        "deepprune",
        DeepPruneSettings(settings.cluster_rule(), settings.finish_rule()),
        settings.sampling(),
        settings.suffix,
        settings.system,
        settings.on_judge_failure,
        settings.seed,
        template=settings.template_args(),
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
        engine_args=config.arguments("--engine-args", settings.engine_args),
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

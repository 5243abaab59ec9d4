"""What a judge can be told when it is opened, once: stages inherit JudgeSettings, constructors take JudgeOptions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from deepprune.base import arguments, config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.engines.servers import ServerSettings


@dataclasses.dataclass
class JudgeSettings:
    """The options of every stage that asks a judge which is a model."""

    dtype: str = config.dtype("the judge's weights' type", "judge_url")
    max_model_len: int | None = setting(
        None, "the judge's context length in tokens (default: the model's)", free=True, at_least=2
    )
    batch: int = setting(64, "pairs scored (or traces encoded) at once", free=True, at_least=1)
    prefix_caching: bool = setting(True, "let vLLM reuse the common start of prompts", free=True)
    tensor_parallel: int = setting(1, "GPUs that share one copy of the judge", free=True, at_least=1)
    data_parallel: int = setting(1, "copies of the judge", free=True, at_least=1)
    engine_args: list[str] = setting(
        [], "further arguments of the judge's vLLM engine, as NAME=VALUE, passed on unread"
    )
    judge_profile: str | None = setting(
        None, "YAML of how the judge is asked (default: the one beside its weights, or ours)", free=True
    )
    other_truncation: bool = setting(
        False, "ask a judge although its profile says that it was trained with another truncation", free=True
    )
    least_label_mass: float = setting(
        0.5,
        "stop if the judge gives its labels less of the probability than this on the first pairs "
        "(0: never, as for zero-shot models)",
        free=True,
        at_least=0,
        at_most=1,
    )

    def engine_arguments(self, **ours: Any) -> dict[str, Any]:
        """Arguments of a judge's engine: ours and --engine-args. Of dicts that both give, the entries of both.

        Raises UserError for a form that is none, and for what would make scores others.
        """
        given = arguments.of_engine(self.engine_args)
        if "logprobs_mode" in given:
            raise UserError("--engine-args: a judge needs raw_logprobs, leave logprobs_mode out")
        both = {name: given[name] | value for name, value in ours.items() if isinstance(given.get(name), dict)}
        return ours | given | both


@dataclasses.dataclass
class JudgeServerSettings(ServerSettings):
    """Of the stages whose judge may be on servers."""

    judge_url: list[str] = setting(
        [], "ask vLLM servers of the judge, as http://127.0.0.1:8001/v1; several share the work", free=True, is_url=True
    )

    def kind_of_judge(self, kind: str) -> str:
        """The kind of judge: on a server where a URL is given. Raises UserError unless both fit."""
        if kind not in ("vllm", "server") and self.judge_url or kind == "server" and not self.judge_url:
            raise UserError("--judge server and --judge-url go together")
        return "server" if self.judge_url else kind


@dataclasses.dataclass
class JudgeOptions(JudgeSettings, JudgeServerSettings):
    """All that a judge's constructor may look at. Unlike a stage, code is content with any label mass.

    cache: file that keeps Sentence-BERT's embeddings; gpu_memory_utilization: a vLLM judge's share of a GPU.
    """

    dtype: str = "auto"
    least_label_mass: float = 0.0
    seed: int = 0
    cache: str | Path | None = None
    gpu_memory_utilization: float = 0.9

    def of_engine(self) -> dict[str, Any]:
        """The options of a judge's vLLM engine, whatever kind of judge it is (engine.start)."""
        return {
            "dtype": self.dtype,
            "max_num_seqs": self.batch,
            "tensor_parallel": self.tensor_parallel,
            "data_parallel": self.data_parallel,
            "gpu_memory_utilization": self.gpu_memory_utilization,
        }

    @classmethod
    def of(cls, settings: Any, **changes: Any) -> JudgeOptions:
        """The options of these names among a stage's settings (None: the defaults), with changes."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**({name: getattr(settings, name) for name in names if hasattr(settings, name)} | changes))

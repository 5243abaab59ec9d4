"""Which judges there are. A new one is a file of this folder with a class of Judge, and one line in KINDS.

    "mine": Kind("deepprune.judges.mine:MyJudge", needs_model=True),

The class is called with the model and the options (settings.JudgeOptions).
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of judge.

    where: 'module:Class'.
    needs_model: a folder or hub id; needs_vllm: an engine in this process (runtime.ensure);
    needs_url: a running server; needs_labels: the true labels (the oracle).
    asked: with the texts of its profile; classifies: by a classification head, not by writing a label.
    stored: what it says depends on the pair alone and costs something, so scores go into a store.
    per_trace: it reads each trace once and not each pair.
    named: how its name in records begins, before the hash of its weights; of kinds without a model the whole name.
    seeded: its name ends in the seed.
    """

    where: str
    needs_model: bool = False
    needs_vllm: bool = False
    needs_url: bool = False
    needs_labels: bool = False
    asked: bool = False
    classifies: bool = False
    stored: bool = False
    per_trace: bool = False
    named: str = ""
    seeded: bool = False


KINDS = {
    "vllm": Kind("deepprune.judges.vllm:VLLMJudge", needs_model=True, needs_vllm=True, asked=True, stored=True),
    "transformers": Kind("deepprune.judges.transformers:TransformersJudge", needs_model=True, asked=True, stored=True),
    "server": Kind("deepprune.judges.server:ServerJudge", needs_model=True, needs_url=True, asked=True, stored=True),
    "classifier": Kind("deepprune.judges.classifier:ClassifierJudge", needs_model=True, asked=True, classifies=True,
                       stored=True, named="classifier:"),
    "vllm-classifier": Kind("deepprune.judges.classifier:VLLMClassifierJudge", needs_model=True, needs_vllm=True,
                            asked=True, classifies=True, stored=True, named="classifier:"),
    "sbert": Kind("deepprune.judges.sbert:SentenceBertJudge", needs_model=True, stored=True, per_trace=True,
                  named="sbert:"),
    "oracle": Kind("deepprune.judges.limits:OracleJudge", needs_labels=True, named="oracle"),
    "random": Kind("deepprune.judges.limits:RandomJudge", named="random", seeded=True),
}  # fmt: skip


def kinds(**wanted: bool) -> tuple[str, ...]:
    """The names of the kinds that have these properties: kinds(needs_url=False)."""
    return tuple(
        name for name, kind in KINDS.items() if all(getattr(kind, key) == value for key, value in wanted.items())
    )

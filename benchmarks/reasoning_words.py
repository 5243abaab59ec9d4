"""How many tokens the first k reasoning words are, by list of words, on recorded traces.

    python benchmarks/reasoning_words.py --traces DeepPrune_data/traces/*.jsonl.gz \
        --lists DeepPrune_data/reasoning_words/sparse.txt

Prints a Markdown table, one row a file of traces and list (the default one first): traces, tokens of a prefix (median and
90th percentile), of a whole trace, and the share of traces that end before the cut, which the judge reads whole.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from deepprune.base import config, progress, records
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.data.reasoning_words import read_words
from deepprune.data.truncation import Truncation
from deepprune.engines import models
from deepprune.evaluate import tables


@dataclasses.dataclass
class LengthSettings:
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records")
    lists: list[str] = setting([], "files of reasoning words, beside the default list")
    truncation_k: int = setting(25, "words", at_least=1)
    tokenizer: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "model whose tokenizer counts")
    limit: int | None = setting(None, "only so many traces of a file, spread evenly", at_least=1)


@command
def main() -> None:
    settings = config.parse(LengthSettings, None, __doc__)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    cuts = {"default": Truncation("words", settings.truncation_k)}
    cuts |= {Path(path).name: Truncation("words", settings.truncation_k, read_words(path)) for path in settings.lists}
    rows = []
    for path in progress.bar(settings.traces, desc="files", unit="file"):
        texts = [t.text for t in records.read(records.Trace, path)]
        every = max(1, len(texts) // (settings.limit or len(texts)))
        texts = texts[::every][: settings.limit]
        rows += [
            {
                "traces": f"{Path(path).name.partition('.')[0]} ({len(texts)})",
                "words": name,
                **measured(texts, cut, tokenizer),
            }
            for name, cut in cuts.items()
        ]
    print(tables.markdown(rows))


def measured(texts: Iterable[str], cut: Truncation, tokenizer) -> dict[str, str]:
    """The cells of one row."""
    prefixes = [cut.cut(text) for text in texts]
    lengths, whole = (
        np.asarray([len(ids) for ids in tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]])
        for part in (prefixes, list(texts))
    )
    return {
        "prefix, median": f"{np.median(lengths):.0f}",
        "90th percentile": f"{np.percentile(lengths, 90):.0f}",
        "whole trace, median": f"{np.median(whole):.0f}",
        "end before the cut": f"{np.mean([len(p) == len(t) for p, t in zip(prefixes, texts, strict=True)]):.0%}",
    }


if __name__ == "__main__":
    main()

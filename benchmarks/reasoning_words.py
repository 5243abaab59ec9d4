"""How many tokens the first k reasoning words are, by list of words, on recorded traces.

    python benchmarks/reasoning_words.py --traces DeepPrune_data/traces/*.jsonl.gz \
        --lists DeepPrune_data/reasoning_words/sparse.txt

Prints a Markdown table, one row a file of traces, k and list (the default one first): tokens of a whole trace and of a
prefix, and the share of traces that end before the cut, which the judge reads whole.
"""

import dataclasses
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
    truncation_k: list[int] = setting([25], "numbers of words", at_least=1)
    tokenizer: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "model whose tokenizer counts")
    limit: int | None = setting(None, "only so many traces of a file, spread evenly", at_least=1)


@command
def main() -> None:
    settings = config.parse(LengthSettings, None, __doc__)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve(settings.tokenizer).path)
    lists = {"default": None} | {Path(path).name: read_words(path) for path in settings.lists}
    rows = []
    for path in progress.bar(settings.traces, desc="files", unit="file"):
        texts = [t.text for t in records.read(records.Trace, path)]
        every = max(1, len(texts) // (settings.limit or len(texts)))
        texts = texts[::every][: settings.limit]
        about = {"traces": Path(path).name.partition(".jsonl")[0], "number": len(texts)}
        about["whole, median"] = f"{np.median(tokens(texts, tokenizer)):.0f}"
        for k in settings.truncation_k:
            for name, words in lists.items():
                prefixes = [Truncation("words", k, words).cut(text) for text in texts]
                rows.append(about | {"k": k, "words": name} | measured(prefixes, texts, tokenizer))
    print(tables.markdown(rows))


def tokens(texts: list[str], tokenizer) -> list[int]:
    """Tokens of each text."""
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def measured(prefixes: list[str], texts: list[str], tokenizer) -> dict[str, str]:
    """The cells of one row."""
    lengths = tokens(prefixes, tokenizer)
    whole = np.mean([len(prefix) == len(text) for prefix, text in zip(prefixes, texts, strict=True)])
    return {
        "prefix, median": f"{np.median(lengths):.0f}",
        "90th percentile": f"{np.percentile(lengths, 90):.0f}",
        "end before the cut": f"{whole:.0%}",
    }


if __name__ == "__main__":
    main()

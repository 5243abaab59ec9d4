"""What any judge must beat: two prefixes' lengths, the question alone, and surface features of both prefixes.

Each is a logistic regression on a few numbers of a pair, fitted on the pairs of training problems. None reads what a
trace says, so a judge that is no better tells nothing from its reading.

    model = references.fit(training_pairs, "lengths")
    scores = references.predict(model, test_pairs, "lengths")
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepprune.base.errors import UserError
from deepprune.base.questions import listed_options, question_words
from deepprune.base.records import Pair

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RESULT = re.compile(r"=\s*\$?\s*(-?\d+(?:\.\d+)?)")
_LETTER = re.compile(r"(?<![\w'])[A-J](?![\w'])")
_YES, _NO = (re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for words in ("yes|true", "no|false|not"))
_HEDGE = re.compile(r"\b(?:wait|but|however|hmm|alternatively|maybe|perhaps|unless)\b", re.IGNORECASE)
_ASKS_YES_OR_NO = re.compile(r"(?:is|are|was|were|did|do|does|can|could|would|will|has|have|should)\b")


def lengths(pair: Pair) -> dict[str, float]:
    """Of the two prefixes, in logarithms of characters."""
    shorter, longer = sorted(math.log1p(len(prefix)) for prefix in (pair.prefix_a, pair.prefix_b))
    return {"shorter": shorter, "longer": longer, "ratio": longer - shorter}


def question(pair: Pair) -> dict[str, float]:
    """Of the question alone: how long, of which kind."""
    return dict(_question(pair.question))


def surface(pair: Pair) -> dict[str, float]:
    """Of both prefixes: which words, numbers, option letters and leanings they share; how much they hedge."""
    a, b = (_prefix(pair.question, prefix) for prefix in (pair.prefix_a, pair.prefix_b))
    return {
        "words": _shared(a["words"], b["words"]),
        "triples": _shared(a["triples"], b["triples"]),
        "last words": _shared(a["last words"], b["last words"]),
        "numbers": _shared(a["numbers"], b["numbers"]),
        "last number": _agree(a["sequence"], b["sequence"]),
        "last five numbers": _shared(frozenset(a["sequence"][-5:]), frozenset(b["sequence"][-5:])),
        "results": _shared(frozenset(a["results"]), frozenset(b["results"])),
        "last result": _agree(a["results"], b["results"]),
        "last letter": _agree(a["letters"], b["letters"]),
        "last letters": _shared(frozenset(a["letters"][-5:]), frozenset(b["letters"][-5:])),
        "leaning": a["leaning"] * b["leaning"],
        "hedging": a["hedging"] + b["hedging"],
        "hedging apart": abs(a["hedging"] - b["hedging"]),
    }


REFERENCES = {
    "lengths": (lengths,),
    "question": (question,),
    "features": (lengths, question, surface),
}


def features(pair: Pair, reference: str) -> list[float]:
    """The numbers that a reference (of REFERENCES) knows of a pair; the same in either order of the two prefixes."""
    return [value for part in REFERENCES[reference] for value in part(pair).values()]


def fit(pairs: Sequence[Pair], reference: str) -> Any:
    """A scikit-learn pipeline, fitted on all pairs. Raises UserError for pairs of one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = [pair.label for pair in pairs]
    if len(set(labels)) < 2:
        raise UserError(f"a reference is fitted on pairs of both classes; here are {len(labels)} pairs of one or none")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return model.fit(np.asarray([features(pair, reference) for pair in pairs]), labels)


def predict(model: Any, pairs: Sequence[Pair], reference: str) -> np.ndarray:
    """p_same of each pair."""
    return model.predict_proba(np.asarray([features(pair, reference) for pair in pairs]))[:, 1]


@functools.lru_cache(maxsize=64)
def _question(text: str) -> dict[str, float]:
    lower = text.lower()
    return {
        "length": math.log(len(text)),
        "digits": sum(c.isdigit() for c in text) / len(text),
        "LaTeX": sum(c in "\\$^{}" for c in text) / len(text),
        "numbers": math.log1p(len(_NUMBER.findall(text))),
        "sentences": math.log1p(text.count(". ")),
        "options": len(listed_options(text)),
        "yes or no": float(_ASKS_YES_OR_NO.match(lower) is not None),
        "how many": float("how many" in lower),
        "which": float("which" in lower),
    }


@functools.lru_cache(maxsize=256)
def _prefix(question: str, text: str) -> dict[str, Any]:
    """What `surface` compares. sequence: the numbers that the question does not hold, in order; leaning in (-1, 1)."""
    given = set(_NUMBER.findall(question))
    words = question_words(text).split()
    sequence = [n for n in _NUMBER.findall(text) if n not in given]
    yes, no = len(_YES.findall(text)), len(_NO.findall(text))
    return {
        "words": frozenset(words),
        "triples": frozenset(zip(words, words[1:], words[2:], strict=False)),
        "last words": frozenset(words[-80:]),
        "sequence": sequence,
        "numbers": frozenset(sequence),
        "results": _RESULT.findall(text),
        "letters": _LETTER.findall(text) if listed_options(question) else [],
        "leaning": (yes - no) / (yes + no + 2),
        "hedging": 1000 * len(_HEDGE.findall(text)) / max(len(text), 1),
    }


def _shared(a: frozenset, b: frozenset) -> float:
    """Share of all that is in both."""
    return len(a & b) / len(a | b) if a or b else 0.0


def _agree(a: Sequence[str], b: Sequence[str]) -> float:
    """1 where the last ones are equal, -1 where they are not, 0 where one has none."""
    if not a or not b:
        return 0.0
    return 1.0 if a[-1] == b[-1] else -1.0

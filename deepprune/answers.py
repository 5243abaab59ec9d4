"""Final answers: telling whether two are the same. Finding one in a trace is extraction.py's.

No answer (None) means *unknown*, which is never the same as anything.

Equivalence is math-verify's (the rule-based check of the paper, after DeepScaleR's reward), asked in both
directions because it is not symmetric, letters for multiple choice, normalised text otherwise. math-verify
can run for minutes on odd input and its own timeouts use signals, so it runs in a worker process that is
killed when it takes too long; such a comparison is unknown (None).
"""

from __future__ import annotations

import fractions
import json
import re
import select
import subprocess
import sys
import threading
from collections.abc import Sequence

from deepprune.extraction import extract, last_boxed  # noqa: F401 - offered here too

TIMEOUT_SECONDS = 5.0

_CHOICE = re.compile(r"^\W*(?:\\(?:text|mathrm|textbf|mathbf)\{)?\W*([A-J])(?:\W|$)", re.IGNORECASE)


def normalise(answer: str, answer_type: str = "math") -> str:
    """A cheap canonical spelling: equal spellings are equal answers; unequal ones may still be equal."""
    text = answer.strip().strip("$").strip()
    if answer_type == "choice":
        letter = _CHOICE.match(text)
        return letter.group(1).upper() if letter else text.upper()
    if answer_type == "text":
        return " ".join(text.casefold().split())
    text = (
        text.replace("\\!", "").replace("\\,", "").replace("\\$", "").replace("dfrac", "frac").replace("tfrac", "frac")
    )
    text = re.sub(r"\\(?:left|right)\b", "", text)
    text = re.sub(r"\s+", "", text).rstrip(".")
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", text):
        return str(fractions.Fraction(text))
    return text


class _MathWorker:
    """math-verify in a process of its own, restarted after a timeout or a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.lock = threading.Lock()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deepprune.answers"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self._reply(60.0)  # the import of sympy

    def _reply(self, timeout: float) -> str | None:
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        return (self.process.stdout.readline().strip() or None) if ready else None

    def same(self, a: str, b: str) -> bool | None:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            try:
                self.process.stdin.write(json.dumps([a, b]) + "\n")
                reply = self._reply(TIMEOUT_SECONDS)
            except BrokenPipeError:
                reply = None
            if reply is None:
                self.process.kill()
                self.process.wait()
                self.process = None
            return {"1": True, "0": False}.get(reply)


_worker = _MathWorker()
_cache: dict[tuple[str, str, str], bool | None] = {}


def same(a: str | None, b: str | None, answer_type: str = "math") -> bool | None:
    """Whether two answers are equivalent. None: unknown (an answer is missing or cannot be compared).

    Symmetric. Results are cached for the life of the process.
    """
    if a is None or b is None:
        return None
    a, b = normalise(a, answer_type), normalise(b, answer_type)
    if a == b:
        return True
    if answer_type != "math":
        return False
    if re.fullmatch(r"[-+]?\d+", a) and re.fullmatch(r"[-+]?\d+", b):
        return False
    key = (min(a, b), max(a, b), answer_type)
    if key not in _cache:
        _cache[key] = _worker.same(*key[:2])
    return _cache[key]


def right_class(labels: Sequence[int | None], correct: Sequence[bool | None]) -> int | None:
    """The answer class of the right traces (None: no trace is right); labels: `classes` of the same traces."""
    return next((label for label, right in zip(labels, correct, strict=True) if right is True), None)


def classes(answers: Sequence[str | None], answer_type: str = "math") -> list[int | None]:
    """Equivalence class of each answer: 0, 1, 2 ... by first appearance, None where the answer is unknown.

    Each new spelling is compared with one representative of each class, so a problem with n traces and c
    distinct answers costs at most (distinct spellings) x c comparisons, not n^2. An answer that cannot be
    compared with anything opens a class of its own.
    """
    representatives: list[str] = []
    known: dict[str, int] = {}
    result: list[int | None] = []
    for answer in answers:
        if answer is None:
            result.append(None)
            continue
        spelling = normalise(answer, answer_type)
        if spelling not in known:
            for index, other in enumerate(representatives):
                if same(spelling, other, answer_type):
                    known[spelling] = index
                    break
            else:
                known[spelling] = len(representatives)
                representatives.append(spelling)
        result.append(known[spelling])
    return result


def majority(
    answers: Sequence[str | None], answer_type: str = "math", weights: Sequence[float] | None = None
) -> str | None:
    """The answer of the heaviest class (first spelling of it); ties go to the class seen first; None: no votes."""
    labels = classes(answers, answer_type)
    totals: dict[int, float] = {}
    first: dict[int, str] = {}
    for i, label in enumerate(labels):
        if label is not None:
            totals[label] = totals.get(label, 0.0) + (weights[i] if weights else 1.0)
            first.setdefault(label, answers[i])
    return first[max(totals, key=lambda c: (totals[c], -c))] if totals else None


def _serve() -> None:
    """Worker: reads [a, b] a line, answers 1 (same), 0 (different) or ? (could not parse)."""
    import logging

    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    print("ready", flush=True)
    for line in sys.stdin:
        try:
            parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in json.loads(line)]
            if not all(parsed):
                print("?", flush=True)
                continue
            a, b = parsed
            equal = verify(a, b, timeout_seconds=None) or verify(b, a, timeout_seconds=None)
            print("1" if equal else "0", flush=True)
        except BaseException:  # noqa: BLE001 - math-verify raises outside Exception; whatever it is: unknown
            print("?", flush=True)


if __name__ == "__main__":
    _serve()

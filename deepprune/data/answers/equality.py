"""Telling whether two answers are the same, and grouping a question's answers.

Equivalence is math-verify's (the rule-based check of the paper, after DeepScaleR's reward), asked in both
directions because it is not symmetric, for what is not a plain number (spelling.py takes an answer apart);
letters for multiple choice, normalised text otherwise. math-verify can run for minutes on odd input and its own
timeouts use signals, so it runs in a worker process that can be killed (math_worker.py); such a comparison is unknown.
"""

from __future__ import annotations

import collections
import math
import re
import unicodedata
from collections.abc import Sequence

from deepprune.data.answers.decoration import unwrap
from deepprune.data.answers.math_worker import MathWorker
from deepprune.data.answers.numbers import equal_numbers
from deepprune.data.answers.spelling import Reading, base_value, latex, read, spelled

TIMEOUT_SECONDS = 5.0  # of the worker's CPU time, for one comparison
SHORT_SECONDS = 1.0  # the same, in a problem where one has been ended already
HUNG_COMPARISONS = 10  # so many may be ended in a problem before new answers are not compared; after twice, none
LAST_SECONDS = 0.25  # the same for grading, where HUNG_COMPARISONS with one of the two answers were ended
MAX_COMPARED_CHARS = 1000  # of an answer that math-verify is asked about
_LETTER = re.compile(
    r"^(?:(?:the\s+)?(?:correct\s+|final\s+)?(?:answer|option|choice)(?:\s+is)?\b)?[\s:]*\W*([A-J])"
    r"(?!\w)(?!\W*(?:text\W*)?(?:,|and|or|/|&)\W*[A-J](?!\w))",  # A and C are no letter
    re.IGNORECASE,
)


def _text(answer: str) -> str:
    """Text (type text) in small letters, without wrappers, punctuation at its end, and extra white space."""
    text = unicodedata.normalize("NFKC", answer).replace("~", " ")
    while True:
        before = text
        text = unwrap(text).rstrip("!?… ")
        if text == before:
            return " ".join(text.casefold().split())


def normalise(answer: str, answer_type: str = "math") -> str:
    """A cheap canonical spelling: equal spellings are equal answers; unequal ones may still be equal."""
    if answer_type == "math":
        return spelled(read(answer))
    if answer_type == "choice":
        text = unwrap(answer)
        letter = _LETTER.match(text)
        return letter.group(1).upper() if letter else text.upper()
    return _text(answer)


class _Budget:
    """What one problem may still spend on comparisons that do not end: counts those that were ended."""

    def __init__(self, strict: bool = False) -> None:
        self.hung = 0
        self.strict = strict  # whether nothing new is compared when it is spent

    def seconds(self) -> float:
        """CPU time for the next comparison."""
        return LAST_SECONDS if self.hung >= HUNG_COMPARISONS else SHORT_SECONDS if self.hung else TIMEOUT_SECONDS


MOST_REMEMBERED = 2**18  # verdicts and values
_NEW = object()
_worker = MathWorker()
_cache: dict[tuple[str, str], bool | None] = {}  # by the two spellings in order
_hung: set[str] = set()  # spellings whose evaluation had to be ended
_values: dict[str, list[float] | None] = {}  # of the other spellings that were evaluated (see MathWorker.values)
_ended: collections.Counter[str] = collections.Counter()  # by spelling: comparisons that had to be ended
_budgets: collections.defaultdict[str, _Budget] = collections.defaultdict(_Budget)  # by spelling, outside `classes`


def _ask(a: str, b: str, budgets: Sequence[_Budget]) -> bool | None:
    """math-verify's verdict on two spellings; None: not known. Remembered, unless it was refused for want of time.

    Each spelling is evaluated once, by itself: one that does not end is never compared, and two whose values differ
    need no comparison.
    """
    a, b = key = (min(a, b), max(a, b))
    if a == b:
        return True
    if len(_cache) + len(_values) > MOST_REMEMBERED:  # a server that runs for months
        for memory in (_cache, _values, _ended, _budgets):
            memory.clear()
    verdict = _cache.get(key, _NEW)  # looked up once: another thread may clear it
    if verdict is not _NEW:
        return verdict
    if a in _hung or b in _hung or max(len(a), len(b)) > MAX_COMPARED_CHARS:
        return None
    if any(budget.strict and budget.hung >= 2 * HUNG_COMPARISONS for budget in budgets):
        return None
    known = []
    for spelling in key:
        values = _values.get(spelling, _NEW)
        if values is _NEW:
            if any(budget.strict and budget.hung >= HUNG_COMPARISONS for budget in budgets):
                return None
            values, hung = _worker.values(latex(spelling), min(budget.seconds() for budget in budgets))
            if hung:
                _hung.add(spelling)
                for budget in budgets:
                    budget.hung += 1
                return None
            _values[spelling] = values
        known.append(values)
    if _far_apart(*known):
        _cache[key] = False
        return False
    verdict, hung = _worker.same(latex(a), latex(b), min(budget.seconds() for budget in budgets))
    _cache[key] = verdict
    if hung:
        _ended.update(key)
        _hung.update(spelling for spelling in key if _ended[spelling] >= 3)
        for budget in budgets:
            budget.hung += 1
    return verdict


def _far_apart(a: list[float] | None, b: list[float] | None) -> bool:
    """Whether two expressions' values differ by more than rounding a decimal of five figures could explain."""
    if a is None or b is None:
        return False
    if len(a) != len(b):  # one of them has no variables, so its values are the same everywhere
        a, b = (x * (max(len(a), len(b)) // len(x)) for x in (a, b))
    return any(abs(x - y) > 1e-3 * max(abs(x), abs(y)) > 1e-12 for x, y in zip(a, b, strict=True))


def _same_math(a: Reading, b: Reading, budgets: Sequence[_Budget] = ()) -> bool | None:
    """`same` for two answers taken apart; budgets: those of the problem (none: those of the two answers)."""
    if a == b:
        return True
    if a.unit and b.unit and a.unit != b.unit:
        if a.unit.startswith("base ") and b.unit.startswith("base "):
            value = base_value(a)
            return value is not None and value == base_value(b)
        return False
    percent = a.unit != b.unit and "%" in (a.unit, b.unit)
    if a.number is not None and b.number is not None:
        if equal_numbers(a.number, b.number):
            return True
        if percent:
            part, other = (a.number, b.number) if a.unit == "%" else (b.number, a.number)
            return equal_numbers(part / 100, other)
        return False
    if a.value == b.value:
        return True
    if any(x.is_words() and (y.number is not None or y.is_words()) for x, y in ((a, b), (b, a))):
        return False
    if a.value.casefold() == b.value.casefold() and r"\text" not in a.value + b.value:  # A and a are two variables
        return False
    if all(x.value.lstrip("-").isdecimal() for x in (a, b)):  # integers too long to be read as numbers
        return False
    budgets = budgets or (_budgets[a.value], _budgets[b.value])
    verdict = _ask(a.value, b.value, budgets)
    if percent and not verdict:
        part, other = (a, b) if a.unit == "%" else (b, a)
        return _ask(rf"\frac{{{part.value}}}{{100}}", other.value, budgets)
    return verdict


def same(a: str | None, b: str | None, answer_type: str = "math") -> bool | None:
    """Whether two answers are equivalent. None: unknown (an answer is missing or cannot be compared).

    Symmetric. An answer (type math) is a value and perhaps a unit, a percent sign, a currency or a base. Values are
    compared exactly where they are plain numbers, by math-verify otherwise. A unit that only one of the two names
    is taken as meant by the other too (5 m and 5 cm are 5, but not each other); so is a base; 50% is 50 and 0.5.
    This is how an answer is graded against a gold answer, and it is not transitive: `classes` makes a partition.
    A decimal of at least six places and five figures is also the number that it was rounded or cut off from.

    Verdicts are remembered (while they are not too many). Raises UserError if math-verify cannot be started.
    """
    if a is None or b is None:
        return None
    if answer_type == "math":
        return _same_math(read(a), read(b))
    return normalise(a, answer_type) == normalise(b, answer_type)


def readable(answer: str) -> bool:
    """Whether an answer (type math) is mathematics that can be compared: not words, broken LaTeX or without end."""
    reading = read(answer)
    if reading.number is not None or re.fullmatch(r"-?\d+", reading.value):
        return True
    if reading.is_words() or len(reading.value) > MAX_COMPARED_CHARS:
        return False
    value = latex(reading.value)
    return _worker.same(value, value, TIMEOUT_SECONDS).same is True


def right_class(labels: Sequence[int | None], correct: Sequence[bool | None]) -> int | None:
    """The answer class of the right traces (None: no trace is right); labels: `classes` of the same traces.

    Where the right traces lie in several classes (50 and 0.5 for a gold answer 50%) it is the one with most of them.
    """
    votes = collections.Counter(
        label for label, right in zip(labels, correct, strict=True) if right is True and label is not None
    )
    return max(votes, key=lambda label: (votes[label], -label)) if votes else None


def _rank(reading: Reading) -> int:
    """Where `classes` takes an answer: with a unit first, then without, then with a percent sign."""
    return 2 if reading.unit == "%" else 0 if reading.unit else 1


class Classes:
    """A problem's answers in classes, one answer after the other: the class that is told of an answer stays its.

    An answer joins the first class whose first spelling is the `same`. A spelling with a unit takes that place from one
    without, as a bare 5 is the same as 5 m and as 5 cm; one without takes it from a percentage. So the answers of a
    class are the same even where `same` is not transitive, but which of two classes a bare 5 joins depends on what came
    before it. Each spelling is compared with each class once at most; 2 x HUNG_COMPARISONS never end.
    """

    def __init__(self, answer_type: str = "math") -> None:
        self.answer_type = answer_type
        self.budget = _Budget(strict=True)
        self.firsts: list[Reading] = []  # of each class
        self.place: dict[Reading | str, int] = {}  # of each spelling

    def spell(self, answer: str) -> Reading | str:
        """The spelling that an answer is known by here."""
        return read(answer) if self.answer_type == "math" else normalise(answer, self.answer_type)

    def add(self, answer: str | None) -> int | None:
        """The answer's class: 0, 1, 2 ... by first appearance; None: unknown."""
        return None if answer is None else self.join(self.spell(answer))

    def join(self, spelling: Reading | str) -> int:
        """The class of a spelling."""
        if spelling not in self.place:
            is_math = self.answer_type == "math"
            self.place[spelling] = self._compared(spelling) if is_math else len(self.place)
        return self.place[spelling]

    def _compared(self, spelling: Reading) -> int:
        for index, first in enumerate(self.firsts):
            if _same_math(spelling, first, (self.budget,)):
                if _rank(spelling) < _rank(first):
                    self.firsts[index] = spelling
                return index
        self.firsts.append(spelling)
        return len(self.firsts) - 1


def classes(answers: Sequence[str | None], answer_type: str = "math") -> list[int | None]:
    """Equivalence class of each answer: 0, 1, 2 ... by first appearance, None where the answer is unknown.

    Which answers are together does not depend on their order. Each spelling joins the first class whose first
    spelling is the `same`; those with a unit come first, then those without, then those with a percent sign, and the
    frequent before the rare, the short before the long: a bare 5 goes to the more frequent of 5 m and 5 cm, and 25%
    to that of 25 and 0.25.

    A problem with n traces and c distinct answers costs at most (distinct spellings) x c comparisons, not n^2, and
    2 x HUNG_COMPARISONS that never end. An answer that cannot be compared with anything opens a class of its own.
    """
    grouped = Classes(answer_type)
    spellings = [None if answer is None else grouped.spell(answer) for answer in answers]
    counts = collections.Counter(s for s in spellings if s is not None)
    order = list(counts)
    if answer_type == "math":
        order.sort(key=lambda r: (_rank(r), -counts[r], len(r.value), r.value, r.unit))
    for spelling in order:
        grouped.join(spelling)
    numbers: dict[int, int] = {}
    return [None if s is None else numbers.setdefault(grouped.join(s), len(numbers)) for s in spellings]


def majority(
    answers: Sequence[str | None], answer_type: str = "math", weights: Sequence[float] | None = None
) -> str | None:
    """The answer of the heaviest class (first spelling of it); ties go to the class seen first; None: no votes.

    Raises ValueError for a weight that is not finite, or is negative, and for weights of another number than answers.
    """
    if weights is not None and len(weights) != len(answers):
        raise ValueError(f"{len(answers)} answers need as many weights, found {len(weights)}")
    for weight in weights or ():
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"a vote's weight must be a finite number and not negative, found {weight}")
    votes: dict[int, list[float]] = {}
    first: dict[int, str] = {}
    for i, label in enumerate(classes(answers, answer_type)):
        if label is not None:
            votes.setdefault(label, []).append(weights[i] if weights is not None else 1.0)
            first.setdefault(label, answers[i])
    totals = {label: math.fsum(weights) for label, weights in votes.items()}  # exact: in any order the same
    return first[max(totals, key=lambda label: (totals[label], -label))] if totals else None

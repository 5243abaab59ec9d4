"""A vote that reckons with unfinished traces (ours): a judge says how like the finished ones they are.

m0 prefixes are opened, and b traces at once are finished in the order in which they were held, until the leading
answer is the plurality with probability at least `threshold`. m0 more are opened when fewer than b unfinished traces
are left, and, up to `prefixes`, while no answer is sure to lead: they are cheaper than another whole trace. The judge
compares unfinished traces with the first R finished ones of each answer. With a judge that says nothing this is
Adaptive-Consistency; with a perfect one an unfinished trace counts as a vote. Where the judge is too poor for prefixes
to be worth their price, none are opened but those that are finished, and it is not asked. What a prefix costs is seen
on the first b traces, before the others are opened.
docs/posterior.md has the derivation, and what else was tried.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Generator, Hashable, Sequence

import numpy as np

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.judges.calibration import Calibration, Noise
from deepprune.prune import shares, voting
from deepprune.prune.protocol import PREFIX, Compare, Event, Generate, Held, Method, Scored, Votes, to_end

COMPARED = 1.5  # a prefix with its comparisons, over the prefix alone (a fifth of the size, two or three comparisons)


@dataclasses.dataclass(frozen=True)
class PosteriorSettings:
    m0: int = setting(16, "prefixes opened at once", at_least=1)
    b: int = setting(2, "traces finished at once", at_least=1)
    r: int = setting(1, "most finished traces of an answer that the unfinished ones are compared with (R)", at_least=1)
    threshold: float = setting(
        0.7, "probability that the leading answer is the plurality, at which it is given", at_least=0, at_most=1
    )
    most: int = setting(
        8, "traces finished, after which the first answer to lead is given (or none, where none has one)", at_least=1
    )
    price: float | None = setting(
        None,
        "what a prefix with its comparisons costs, as a share of a whole trace; m0 prefixes are opened where the judge "
        f"is expected to save more (0: always; default: {COMPARED:g} times what the question's first b traces show)",
        at_least=0,
    )
    calibration: Calibration = Calibration()  # noqa: RUF009 - frozen
    prefixes: int = setting(
        32,
        "prefixes up to which m0 more are opened, instead of finishing traces, while no answer is sure to lead",
        at_least=1,
    )

    def __post_init__(self) -> None:
        config.check(self)

    def asks(self, price: float) -> bool:
        """Whether prefixes that are not finished are opened, and judged, where one costs so much of a whole trace."""
        noise, held = self.calibration.noise, self.m0 - self.b
        return held > 0 and noise.gap > 0 and shares.saved(noise, held) >= held * price


def posterior(
    count: int,
    settings: PosteriorSettings,
    key: Hashable = "",
    lead: Callable[[shares.Judged, Noise], shares.Lead] = shares.lead,
) -> Method:
    """lead: says who leads, for callers that play many settings and remember it."""
    question = _Question(count, settings, lead)
    while not question.ends():
        yield from question.generate()
        yield from question.compare()
    return question.votes()


class _Question:
    """What is known of a question's traces. arrived: in the order in which they were held; answers: of those ended."""

    def __init__(self, count: int, settings: PosteriorSettings, lead: Callable = shares.lead):
        self.count, self.settings, self.who_leads = count, settings, lead
        # Whether prefixes are opened that are not finished at once; None: what one costs is not known yet.
        self.asks = None if settings.price is None and settings.asks(0.0) else settings.asks(settings.price or 0.0)
        self.prefixes: dict[int, int] = {}  # tokens
        self.arrived: list[int] = []
        self.answers: dict[int, int | None] = {}
        self.ratios: dict[tuple[int, int], float] = {}  # (finished, other) -> log-likelihood ratio same : different
        self.lead = shares.Lead()

    def generate(self) -> Generator[Sequence, Event, None]:
        """Open prefixes where fewer than b traces can be finished; else finish b.

        In the order of arrival; but of an answer that is sure to lead and has not more finished traces than another,
        those that are likeliest to be of it.
        """
        unfinished, opened = self.unfinished(), len(self.arrived)
        if (len(unfinished) < self.settings.b or self.wants_more()) and opened < self.count:
            yield from self.open(opened + (self.settings.m0 if self.asks else self.settings.b))
            return
        if self.asks and self.enough():
            belongs = dict(zip(unfinished, self.lead.belongs.tolist(), strict=True))
            unfinished.sort(key=belongs.__getitem__, reverse=True)
        chosen = unfinished[: self.settings.b]
        ended = yield from to_end(chosen)
        self.answers.update((trace, ended[trace].answer) for trace in chosen)
        if self.asks is None:
            share = sum(self.prefixes[t] for t in chosen) / max(sum(ended[t].tokens for t in chosen), 1)
            self.asks = self.settings.asks(COMPARED * share)
            if self.asks:
                yield from self.open(self.settings.m0)

    def wants_more(self) -> bool:
        """Whether prefixes may tell who leads: cheaper than another whole trace."""
        return (
            bool(self.asks)
            and self.lead.leader is not None
            and not self.enough()
            and len(self.arrived) < self.settings.prefixes
        )

    def open(self, wanted: int) -> Generator[Sequence, Event, None]:
        """Open prefixes until so many traces, or all, are open."""
        wanted = min(self.count, wanted)
        commands = [Generate(tuple(range(len(self.arrived), wanted)), PREFIX)]
        while len(self.arrived) < wanted:
            event = yield commands
            assert isinstance(event, Held)  # nothing else is in flight
            self.arrived.append(event.trace)
            self.prefixes[event.trace] = event.tokens
            commands = []

    def compare(self) -> Generator[Sequence, Event, None]:
        """Ask about the unfinished against the finished ones that stand for their answers, and look who leads."""
        members, unfinished = self.members(), self.unfinished() if self.asks else []
        pairs = tuple(
            (member, trace)
            for group in members
            for member in group
            for trace in unfinished
            if (member, trace) not in self.ratios
        )
        if pairs:
            event = yield [Compare(pairs)]
            assert isinstance(event, Scored)  # nothing is in flight
            ratios = self.settings.calibration.ratios(event.p_same)
            self.ratios.update(zip(event.pairs, ratios.tolist(), strict=True))
        self.lead = self.who_leads(self.judged(members, unfinished), self.settings.calibration.noise)

    def unfinished(self) -> list[int]:
        return [trace for trace in self.arrived if trace not in self.answers]

    def counts(self) -> dict[int, int]:
        """Finished traces of each answer, in the order in which they were first seen."""
        return collections.Counter(answer for answer in self.answers.values() if answer is not None)

    def members(self) -> list[list[int]]:
        """The finished traces that stand for each answer, in the order of `counts`."""
        result: dict[int, list[int]] = {answer: [] for answer in self.counts()}
        for trace, answer in self.answers.items():
            if answer is not None and len(result[answer]) < self.settings.r:
                result[answer].append(trace)
        return list(result.values())

    def judged(self, members: list[list[int]], unfinished: list[int]) -> shares.Judged:
        """What is known, as `shares` takes it."""
        ratios = [[sum(self.ratios[m, u] for m in group) / len(group) for group in members] for u in unfinished]
        place = {trace: number for number, trace in enumerate(trace for group in members for trace in group)}
        among = [(place[a], place[b], x) for (a, b), x in self.ratios.items() if a in place and b in place]
        classes = [number for number, group in enumerate(members) for _ in group]
        counts = list(self.counts().values())
        return shares.Judged(
            np.asarray(counts, dtype=np.float64),
            len(self.answers) - sum(counts),
            np.asarray([len(group) for group in members], dtype=np.float64),
            np.asarray(ratios).reshape(len(unfinished), len(members)),
            *shares.effects(classes, among, len(members), self.settings.calibration.noise),
        )

    def enough(self) -> bool:
        """Whether the leader is sure enough, or so many traces are finished that any leader will do."""
        sure = self.lead.leader is not None and self.lead.probability >= self.settings.threshold
        return sure or len(self.answers) >= self.settings.most

    def ends(self) -> bool:
        """Whether there is enough, and no tie of the finished traces' answers; or whether nothing is left to do."""
        first, second = voting.leading(list(self.counts().values()))
        return self.enough() and (first > second or not first) or len(self.answers) == self.count

    def votes(self) -> Votes:
        """A finished trace's vote, and its share of what the unfinished ones are expected to add to its answer."""
        counts = self.counts()
        weights = {a: 1.0 + more / counts[a] for a, more in zip(counts, self.lead.expected.tolist(), strict=True)}
        ended = [trace for trace in self.arrived if trace in self.answers]
        return {trace: weights.get(self.answers[trace], 1.0) for trace in ended}

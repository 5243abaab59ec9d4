"""Methods on recorded traces: what each would have generated, how long that takes, and what it answers.

The clock counts tokens: every trace in flight makes one a tick, all of them in parallel, and the judge takes no time.
Traces are held in the order of their numbers, which is the order in which recorded traces arrived.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import heapq
from collections.abc import Generator, Sequence

from deepprune.data import confidence
from deepprune.prune import voting
from deepprune.prune.protocol import PREFIX, Dropped, Ended, Event, Generate, Held, Method, Scored, Stop, Votes


@dataclasses.dataclass
class Recorded:
    """One question's traces in one order.

    labels: answer classes (None: unknown); lengths, prefixes: reasoner tokens of whole traces and of their prefixes;
    confidences: Trace.confidence of each (or empty).
    """

    labels: Sequence[int | None]
    lengths: Sequence[int]
    prefixes: Sequence[int] = ()
    confidences: Sequence[dict | None] = ()

    @functools.cached_property
    def lowest(self) -> list[float | None]:
        """Each trace's lowest group confidence (None: not recorded)."""
        known = self.confidences or [None] * len(self.labels)
        return [None if c is None else confidence.lowest_group(c) for c in known]


@dataclasses.dataclass(frozen=True)
class Played:
    """What a method did for one question.

    answer: class of the vote's winner (None: no votes). votes: trace -> weight. opened: how many traces were started.
    finished: those that were generated to their end, in the order in which that was asked for. prefix, rest, stopped:
    reasoner tokens up to where traces were held, of the others up to their end, and of those that were stopped before.
    sequential: the longest chain of dependent generation, in tokens (what latency follows). compared: pairs judged.
    """

    answer: int | None
    votes: Votes
    opened: int
    finished: tuple[int, ...]
    prefix: int
    rest: int
    stopped: int
    sequential: int
    compared: int = 0

    @property
    def tokens(self) -> int:
        return self.prefix + self.rest + self.stopped


@dataclasses.dataclass(slots=True)
class _Flight:
    """A trace in flight: the clock when it set out and when its event comes, and how long the trace is then."""

    since: int
    due: int
    goal: int
    event: Event


class _Clock:
    """What is generated at which tick."""

    def __init__(self, recorded: Recorded):
        self.recorded = recorded
        self.now = self.held_until = 0
        self.generated: dict[int, int] = {}  # tokens of each trace that was started, but for those in flight
        self.flying: dict[int, _Flight] = {}
        self.dues: list[tuple[int, int]] = []  # a heap of (due, trace), with those of flights that were stopped
        self.wanted: dict[int, bool] = {}  # traces generated to the end, by when that was asked for: has it ended?
        self.tokens = {Held: 0, Ended: 0, Dropped: 0}

    def start(self, command: Generate) -> None:
        for trace in command.traces:
            generated = self.generated.setdefault(trace, 0)
            goal, event = self._goal(trace, command)
            since = self.flying[trace].since if trace in self.flying else self.now  # in flight: it gets a new goal
            due = since + goal - generated
            if command.to == PREFIX:
                due = self.held_until = max(due, self.held_until)
            else:
                self.wanted[trace] = False
            self.flying[trace] = _Flight(since, due, goal, event)
            self.dues.append((due, trace))
        heapq.heapify(self.dues)

    def _goal(self, trace: int, command: Generate) -> tuple[int, Event]:
        """How long the trace is when it is held, dropped or ended, and what is told of it then."""
        recorded = self.recorded
        if command.to == PREFIX:
            return recorded.prefixes[trace], Held(trace, recorded.prefixes[trace])
        if command.below is not None:
            for end, mean in confidence.full_windows(recorded.confidences[trace]):
                if mean < command.below:
                    return min(end, recorded.lengths[trace]), Dropped(trace)
        length = recorded.lengths[trace]
        return length, Ended(trace, recorded.labels[trace], recorded.lowest[trace], length)

    def stop(self, traces: Sequence[int]) -> None:
        for trace in traces:
            flight = self.flying.pop(trace, None)
            if flight:
                self._count(trace, min(flight.goal, self.generated[trace] + self.now - flight.since), Dropped)

    def _count(self, trace: int, length: int, kind: type) -> None:
        self.tokens[kind] += length - self.generated[trace]
        self.generated[trace] = length

    def next(self) -> Event:
        """Let the clock run to the next event. Raises RuntimeError where none will come."""
        while self.dues:
            due, trace = heapq.heappop(self.dues)
            flight = self.flying.get(trace)
            if flight and flight.due == due:
                del self.flying[trace]
                self.now = due
                self._count(trace, flight.goal, type(flight.event))
                if type(flight.event) is Ended:
                    self.wanted[trace] = True
                return flight.event
        raise RuntimeError("the method waits, but nothing is in flight")

    def played(self, votes: Votes, compared: int) -> Played:
        """What was done, now that the method has its votes."""
        self.stop(list(self.flying))
        finished = tuple(trace for trace, ended in self.wanted.items() if ended)
        answer = voting.winner(votes, self.recorded.labels)
        tokens = (self.tokens[kind] for kind in (Held, Ended, Dropped))
        return Played(answer, votes, len(self.generated), finished, *tokens, self.now, compared)


def replay(method: Method, recorded: Recorded) -> Generator[Sequence[tuple[int, int]], Sequence[float], Played]:
    """Run a method on recorded traces. Yields the pairs that it wants judged, is sent their p_same, returns a Played.

    As `clustering.greedy` it is driven together with others by `clustering.lockstep`.
    """
    clock, compared = _Clock(recorded), 0
    scored: collections.deque[Scored] = collections.deque()
    event: Event | None = None
    while True:
        try:
            commands = method.send(event)
        except StopIteration as stop:
            return clock.played(stop.value, compared)
        for command in commands:
            if isinstance(command, Generate):
                clock.start(command)
            elif isinstance(command, Stop):
                clock.stop(command.traces)
            else:
                compared += len(command.pairs)
                scored.append(Scored(command.pairs, (yield command.pairs)))
        event = scored.popleft() if scored else clock.next()


def play(method: Method, recorded: Recorded) -> Played:
    """`replay` of a method that asks no judge. Raises RuntimeError if it does."""
    try:
        next(replay(method, recorded))
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the method asks the judge: use replay")


def rerun(method: Method, log: Sequence[Event]) -> Votes:
    """The votes of a method that is told what a live run's was. Raises RuntimeError if it has none, or has before."""
    try:
        for event in (None, *log):
            method.send(event)
    except StopIteration as stop:
        if log and event is not log[-1]:
            raise RuntimeError("the method has its votes before the events end") from None
        return stop.value
    raise RuntimeError("the method wants more events")

"""What a way to answer a question (a method) and what runs it (a driver) say to each other. Pure: no model, no files.

A method is a generator, one a question. It yields the commands that it has now (none: it waits), is sent one event,
and returns its votes: trace -> weight, of which a tie goes to the class that is first in it. Traces are numbers
0 .. n - 1 in the order in which they may be started. Every command is asynchronous; when a method returns, what is in
flight is stopped. So one implementation serves recorded traces (replay.py), simulated judges and live traffic.

A wave of four, and one vote each of those that ended in an answer:

    def first_four(count, settings, key=""):
        ended = yield from to_end(range(min(4, count)))
        return dict.fromkeys(sorted(ended), 1.0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Sequence

PREFIX, END = "prefix", "end"


@dataclasses.dataclass(frozen=True, slots=True)
class Generate:
    """Start these traces, or go on with them, all in parallel. One that is in flight gets a new goal.

    to: PREFIX (each is held where the truncation cuts: `Held`) or END (`Ended`; also of a trace that ended before its
    prefix was complete). below: on the way to the end, stop a trace at its first full confidence window under this
    (DeepConf: `Dropped`); one that is shorter than a window counts as a window.
    """

    traces: tuple[int, ...]
    to: str = END
    below: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """End what is in flight of these traces: what they generated counts, nothing more is. No event tells of it."""

    traces: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Compare:
    """The judge's p_same of these pairs of traces whose prefixes are known (`Scored`)."""

    pairs: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A trace's prefix of so many tokens is complete (or it ended before: `Generate` to its end costs nothing)."""

    trace: int
    tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A trace is whole. answer: its class (None: unknown). confidence: its lowest group confidence (None: unknown).

    tokens: of the whole trace.
    """

    trace: int
    answer: int | None
    confidence: float | None = None
    tokens: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Dropped:
    """A trace was stopped by `below`."""

    trace: int


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """The judge has answered a `Compare`: p_same of each pair, in its order."""

    pairs: tuple[tuple[int, int], ...]
    p_same: Sequence[float]


Command, Event = Generate | Stop | Compare, Held | Ended | Dropped | Scored
Votes = dict[int, float]
Method = Generator[Sequence[Command], Event, Votes]
WAIT: tuple[Command, ...] = ()


def to_end(traces: Iterable[int], below: float | None = None) -> Generator[Sequence[Command], Event, dict[int, Event]]:
    """Generate traces to the end, all in parallel, and wait for them. Returns the last event of each."""
    wanted = tuple(traces)
    commands: Sequence[Command] = [Generate(wanted, END, below)]
    last: dict[int, Event] = {}
    while len(last) < len(wanted):
        event = yield commands
        last[event.trace] = event
        commands = WAIT
    return last

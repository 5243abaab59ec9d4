"""The method posterior on recorded traces with a table of scores, over its thresholds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deepprune.judges.calibration import Calibration, Noise
from deepprune.prune import clustering, shares
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.replay import Played, Recorded, replay

Done = tuple[str, Played, list[list[int]]]  # the settings in words, what was done, whom each trace was compared with


class Remembered:
    """`shares.lead`, asked once about what it was asked before: runs that differ in the threshold begin alike."""

    def __init__(self) -> None:
        self.known: dict[tuple, shares.Lead] = {}

    def __call__(self, judged: shares.Judged, noise: Noise) -> shares.Lead:
        arrays = (judged.votes, judged.members, judged.ratios, judged.mean)
        key = (*(array.tobytes() for array in arrays), judged.ratios.shape, judged.without, noise)
        if key not in self.known:
            self.known[key] = shares.lead(judged, noise)
        return self.known[key]


def played(recorded: Recorded, scores: Sequence[Sequence[float]], tried: Iterable[PosteriorSettings]) -> Iterator[Done]:
    """What each of these settings does. scores[member][new]: p_same."""
    lead = Remembered()
    for settings in tried:
        title = f"m0 {settings.m0}, b {settings.b}, {settings.threshold:g}"
        method = METHODS["posterior"].start(len(recorded.labels), settings, lead=lead)
        yield title, *clustering.on_table(replay(method, recorded), scores)


def usual(thresholds: Sequence[float], calibration: Calibration | None) -> list[PosteriorSettings]:
    """The settings that the comparison of methods tries; none for a judge of which it is not known what it is worth."""
    if calibration is None:
        return []
    return [PosteriorSettings(b=b, threshold=t, calibration=calibration) for b in (1, 2) for t in thresholds]

"""Judges of others that were trained on problems which they may be evaluated on."""

from __future__ import annotations

TRAINED_ON = {
    "DeepPrune-Judge-4B": (
        "was very probably trained on problems of AIME 2024, AIME 2025 and GPQA (the paper's first version): on those "
        "its scores are no test"
    )
}


def leak_of(judge: str) -> str | None:
    """One line on what a judge of this name has seen; None if nothing is known."""
    for name, what in TRAINED_ON.items():
        if name.casefold() in judge.casefold():
            return f"{judge} {what}"
    return None

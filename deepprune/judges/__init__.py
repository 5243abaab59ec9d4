"""Judges: everything that can say how likely two truncated traces end in the same answer.

One interface (interface.py), one file a kind, listed in registry.py; training/ makes them.
Stands on base, data and engines.
"""

from deepprune.judges.interface import Judge, NotAJudge, PromptTooLong, Request, Score
from deepprune.judges.opening import (
    describe,
    folder_of,
    name_of,
    note,
    note_mass,
    open_judge,
    parameters_of,
    profile_of,
    prompts_of,
)
from deepprune.judges.registry import KINDS, Kind, kinds
from deepprune.judges.settings import JudgeOptions, JudgeServerSettings, JudgeSettings

__all__ = [
    "KINDS",
    "Judge",
    "JudgeOptions",
    "JudgeServerSettings",
    "JudgeSettings",
    "Kind",
    "NotAJudge",
    "PromptTooLong",
    "Request",
    "Score",
    "describe",
    "folder_of",
    "kinds",
    "name_of",
    "note",
    "note_mass",
    "open_judge",
    "parameters_of",
    "profile_of",
    "prompts_of",
]

"""Bars: lively on a terminal, else a few lines of those that stay. A run's log gets lines or the last state."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from deepprune.base import console

BETWEEN = 30  # seconds from one line to the next, where there is no terminal; and at most one a quarter of the way


class Bar(tqdm):
    """A tqdm bar on the console (see console.py)."""

    def __init__(self, *args: Any, **options: Any):
        stream = options.setdefault("file", console.bars())
        self.lines = not stream.isatty()
        # Of the last line: n, quarter of the way, seconds since the start.
        self.shown, self.quarter, self.last = 0, 0, 0.0
        if self.lines:
            options["disable"] = options.get("disable") or not options.get("leave", True)
        super().__init__(*args, **{"mininterval": 0.5, "dynamic_ncols": True} | options)
        if self.lines and not self.disable:
            self.bar_format = "{desc}: {n_fmt}" + " of {total_fmt}" * bool(self.total) + " in {elapsed}{postfix}"

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if not self.lines:
            return super().display(msg, pos)
        elapsed = self.format_dict["elapsed"]
        quarter = 4 * self.n // self.total if self.total else 0
        if quarter > self.quarter and elapsed >= self.last + BETWEEN:
            self._line(quarter, elapsed)
        return False

    def _line(self, quarter: int, elapsed: float) -> None:
        self.shown, self.quarter, self.last = self.n, quarter, elapsed
        print(self, file=self.fp, flush=True)
        console.log(str(self))

    def close(self) -> None:
        if not self.disable and self.lines:
            if self.n > self.shown:
                self._line(4, self.format_dict["elapsed"])
            self.leave = False  # no empty line
            super().close()
        elif not self.disable:
            console.log(str(self))
            super().close()


def bar(*args: Any, **options: Any) -> Bar:
    """A bar with tqdm's arguments. leave=False: gone when done, and no line where there is no terminal."""
    return Bar(*args, **options)

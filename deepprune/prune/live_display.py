"""What a live run looks like while it goes: traces by state, tokens spent and saved, clusters by size."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from deepprune.base import console
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_flights import STATES


class Display:
    """A rich table on a terminal; elsewhere silent but for one line a question."""

    def __init__(self, total: int):
        self.total, self.done, self.started = total, 0, time.monotonic()
        self.questions: dict[str, LiveQuestion] = {}
        self.view = None

    def __enter__(self) -> Display:
        if console.bars().isatty():
            from rich.console import Console
            from rich.live import Live

            self.view = Live(get_renderable=self.table, console=Console(file=console.bars()), refresh_per_second=4)
            self.view.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.view:
            self.view.__exit__(*error)

    def begin(self, question: LiveQuestion) -> None:
        """A question has started."""
        self.questions[question.problem.problem_id] = question

    def end(self, question: LiveQuestion, line: str) -> None:
        """A question is answered; `line` says how."""
        self.done += 1
        self.questions.pop(question.problem.problem_id, None)
        say: Callable = self.view.console.print if self.view else print
        say(f"[{self.done}/{self.total}] {line}")

    def table(self):
        """The questions that are running now."""
        from rich.table import Table

        seconds = time.monotonic() - self.started
        table = Table(title=f"live pruning: {self.done} of {self.total} questions, {seconds:.0f} s")
        for column in ("question", *STATES, "tokens", "saved so far", "clusters by size"):
            table.add_column(column)
        for question in list(self.questions.values()):
            states = Counter(trace.state for trace in question.traces.all)
            spent, consensus = question.traces.spent(), question.traces.consensus_tokens()
            sizes = sorted(map(len, question.clustering.clusters if question.clustering else []), reverse=True)
            table.add_row(
                question.problem.question.strip().replace("\n", " ")[:40],
                *(str(states.get(s, 0)) for s in STATES),
                f"{spent:,}",
                f"{1 - spent / consensus:.0%}" if consensus else "",
                " ".join(map(str, sizes[:12])) + (" ..." if len(sizes) > 12 else ""),
            )
        return table

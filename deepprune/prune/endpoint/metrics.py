"""The endpoint's /metrics in Prometheus format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from deepprune.prune.answerer import Answer

SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """One registry a server, so that several in one process (tests) do not count together. method: as in a model's
    name, without the number."""

    def __init__(self):
        self.registry = CollectorRegistry()
        more = {"registry": self.registry}
        method = {"labelnames": ["method"], **more}
        ProcessCollector(registry=self.registry)
        self.in_progress = Gauge("deepprune_questions_in_progress", "Questions that are being answered", **more)
        self.answered = Counter("deepprune_questions_answered", "Questions that were answered", **method)
        self.hung_up = Counter("deepprune_hang_ups", "Questions whose client hung up before the answer", **method)
        self.failed = Counter(
            "deepprune_questions_failed", "Questions that were taken and not answered", ["method", "reason"], **more
        )
        self.refused = Counter(
            "deepprune_requests_refused", "Requests that were answered with an error", ["status"], **more
        )
        self.seconds = Histogram(
            "deepprune_question_seconds", "From asking to the answer", ["method"], buckets=SECONDS, **more
        )
        self.generated = Counter("deepprune_generated_tokens", "Tokens generated for answered questions", **method)
        self.unanswered = Counter(
            "deepprune_unanswered_tokens", "Tokens generated for questions that failed or were hung up on", **method
        )
        self.saved = Gauge(
            "deepprune_saved_tokens",
            "Tokens that cons@n would have generated more, by the lengths of finished traces, since the start "
            "(negative: fewer); the judge is not counted",
            **method,
        )
        self.calls = Counter("deepprune_judge_calls", "Prompts that the judge was asked", **method)
        self.judged = Counter("deepprune_judge_prompt_tokens", "Tokens of the judge's prompts", **method)
        self.up = Gauge("deepprune_up", "Whether reasoner and judge are there (1) or gone (0)", ["part"], **more)

    def answer(self, method: str, answer: Answer) -> None:
        """Count an answered question."""
        total, consensus = answer.tokens["total"], answer.tokens["consensus"]
        self.answered.labels(method).inc()
        self.seconds.labels(method).observe(answer.seconds)
        self.generated.labels(method).inc(total)
        self.saved.labels(method).inc(consensus - total if consensus else 0)
        self.calls.labels(method).inc(answer.judge_calls)
        self.judged.labels(method).inc(answer.judge_tokens)

    def lose(self, method: str, reason: str | None, tokens: int) -> None:
        """Count a question that was not answered (reason: None: its client hung up), and what was generated for it."""
        (self.failed.labels(method, reason) if reason else self.hung_up.labels(method)).inc()
        self.unanswered.labels(method).inc(tokens)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

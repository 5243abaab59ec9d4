"""An Answer as OpenAI's chat completion: what is shown of the traces, what is counted, and as a stream.

The content is the text of a finished trace that ends in the answer with the most votes, so that it reads as a solution;
what such a trace thought before (a think block) is `reasoning_content`. Where no trace has an answer it is the first
trace's text, and `deepprune.answer` is null.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from deepprune.base import jsonl
from deepprune.base.records import Trace
from deepprune.data import answers, reasoning
from deepprune.prune import costs
from deepprune.prune.answerer import Answer
from deepprune.prune.endpoint.question import Asked

PIECE = 200  # characters of a chunk of content


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a question is answered with. thought: None where the trace does not tell reasoning and answer apart."""

    content: str
    thought: str | None
    finish_reason: str
    usage: dict[str, Any]
    more: dict[str, Any]  # the field `deepprune`


def of(answer: Answer, asked: Asked, tokenizer: Any, weight: float | None) -> Reply:
    """The reply that shows an answer. tokenizer: the reasoner's; counts the tokens of a content beside its thoughts.

    weight: of a token of the judge, in the reasoner's (by parameters; None: not known).
    """
    trace = shown(answer, asked.answer_type)
    content, thought = ("", None) if trace is None else apart(trace, asked.answer_type)
    total = answer.tokens["total"]
    seen = 0
    if trace is not None:
        seen = trace.n_tokens if thought is None else len(tokenizer.encode(content, add_special_tokens=False))
    usage = {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": total,
        "total_tokens": asked.prompt_tokens + total,
        "completion_tokens_details": {"reasoning_tokens": max(0, total - seen)},
    }
    reason = "length" if trace is None or trace.finish_reason == "length" else "stop"
    return Reply(content, thought, reason, usage, more(answer, asked, weight))


def shown(answer: Answer, answer_type: str) -> Trace | None:
    """The trace whose text is the reply: the first that is finished and has the answer, in its spelling if any has."""
    whole = [t for t, state in zip(answer.traces, answer.states, strict=True) if state == "finished"]
    if answer.answer is None:
        return next(iter(whole or answer.traces), None)
    right = [trace for trace in whole if answers.same(trace.answer, answer.answer, answer_type)]
    return next((trace for trace in right if trace.answer == answer.answer), next(iter(right), None))


def apart(trace: Trace, answer_type: str) -> tuple[str, str | None]:
    """(content, thoughts) of a trace. The whole text is the content where what follows the thoughts has no answer."""
    thought, content = reasoning.split(trace.text)
    if not thought or (trace.answer is not None and answers.extract(content, answer_type) is None):
        return trace.text, None
    return content, thought


def more(answer: Answer, asked: Asked, weight: float | None) -> dict[str, Any]:
    """What the vote says, and what it cost. saving: against cons@n, without the judge and with it."""
    consensus, total = answer.tokens["consensus"], answer.tokens["total"]
    known = consensus > 0
    judged = 0.0 if not answer.judge_tokens else None if weight is None else weight * answer.judge_tokens
    return {
        "method": asked.method,
        "n": asked.settings.n,
        "answer": answer.answer,
        "votes": answer.votes,
        "confidence": answer.confidence,
        "traces": Counter(answer.states),
        "tokens": answer.tokens,
        "saving": {
            "consensus_tokens": consensus if known else None,
            "tokens": consensus - total if known else None,
            "share": costs.reduction(total, consensus) if known else None,
            "share_with_judge": costs.reduction(total + judged, consensus) if known and judged is not None else None,
        },
        "judge": {"calls": answer.judge_calls, "prompt_tokens": answer.judge_tokens},
        "seconds": round(answer.seconds, 3),
    }


def completion(asked: Asked, reply: Reply) -> dict[str, Any]:
    """The whole reply as one object."""
    thought = {} if reply.thought is None else {"reasoning_content": reply.thought}
    message = {"role": "assistant", "content": reply.content, "refusal": None} | thought
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return _head(asked, "chat.completion") | {"choices": [choice], "usage": reply.usage, "deepprune": reply.more}


def chunks(asked: Asked, reply: Reply) -> Iterator[dict[str, Any]]:
    """The reply as a stream of chunks; the last but usage has the finish reason and the field `deepprune`."""
    head = _head(asked, "chat.completion.chunk") | ({"usage": None} if asked.include_usage else {})

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for name, text in (("reasoning_content", reply.thought or ""), ("content", reply.content)):
        for start in range(0, len(text), PIECE):
            yield chunk({name: text[start : start + PIECE]})
    yield chunk({}, reply.finish_reason) | {"deepprune": reply.more}
    if asked.include_usage:
        yield head | {"choices": [], "usage": reply.usage}


def _head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": asked.id, "object": kind, "created": asked.created, "model": asked.model}


def event(data: dict[str, Any] | str) -> str:
    """A server-sent event."""
    return f"data: {data if isinstance(data, str) else jsonl.dumps(data)}\n\n"


class Progress:
    """What happens to a question's traces, for comments of a stream. `tell` gets the events of LiveQuestion."""

    def __init__(self):
        self.states: dict[int, str] = {}
        self.tokens: dict[int, int] = {}
        self.judged, self.started = 0, time.monotonic()

    def tell(self, happened: dict[str, Any]) -> None:
        if happened["event"] == "judged":
            self.judged += len(happened["members"])
        elif "trace" in happened:
            self.states[happened["trace"]] = happened["event"]
            self.tokens[happened["trace"]] = happened["tokens"]

    @property
    def generated(self) -> int:
        """Tokens of the traces that are held or at their end."""
        return sum(self.tokens.values())

    def comment(self) -> str:
        """A comment of a stream. Clients pass over it; proxies keep the connection."""
        now = {"traces": Counter(self.states.values()), "tokens": self.generated, "judged": self.judged}
        seconds = round(time.monotonic() - self.started, 1)
        return f": progress {json.dumps(now | {'seconds': seconds})}\n\n"

"""An endpoint in this process on a free port, with a made-up reasoner and judge that can be killed and come back."""

import asyncio
import itertools
import json
import threading
import urllib.error
import urllib.request

from servers import until
from test_live import Words

from deepprune.base.errors import UserError
from deepprune.base.jsonl import Appender
from deepprune.engines.reasoners import Chunk, Reasoner, ReasonerLost
from deepprune.judges import Judge, PromptTooLong, Score
from deepprune.prune import live_setup
from deepprune.prune.answerer import Answerer
from deepprune.prune.endpoint import server
from deepprune.prune.endpoint.settings import ServeSettings, bound

NAME = "Toy-1B"
QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


def wrong_at_times(number):
    """A trace's text: of four, three end in 4."""
    value = 7 if number % 4 == 3 else 4
    return f"First {value} is near. So we check it again, {number} times. Therefore the answer is \\boxed{{{value}}}."


class ToyReasoner(Reasoner):
    """Generates text(number of the trace) a word at a time. pace: seconds a word; dead: it fails until it is mended.

    made: tokens generated; open_now: requests; prompts: those of new traces, decoded.
    """

    name = f"toys/{NAME}"

    def __init__(self, text=wrong_at_times, pace=0.0, end="stop"):
        self.tokenizer, self.text, self.pace, self.end = Words(), text, pace, end
        self.made = self.open_now = 0
        self.numbers, self.plans, self.prompts, self.asked = itertools.count(), {}, [], []
        self.dead = False

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        words, at = self.plans.pop(tuple(prompt), (None, 0))
        if words is None:
            words = self.text(next(self.numbers)).split(" ")
            self.prompts.append(self.tokenizer.decode(prompt))
            self.asked.append((sampling, top))
        given, left = list(prompt), words[at : at + max_tokens]
        self.open_now += 1
        try:
            for i, word in enumerate(left):
                await asyncio.sleep(self.pace)
                if self.dead:
                    raise ReasonerLost("the engine died")
                self.made += 1
                given.append(self.tokenizer._id(word))
                last = i + 1 == len(left)
                reason = (self.end if at + len(left) == len(words) else "length") if last else None
                yield Chunk(" " * (at + i > 0) + word, given[-1:], reason, [[-1.0]] if top else [])
                if stop.is_set() and not last:
                    self.plans[tuple(given)] = words, at + i + 1
                    yield Chunk("", [], "abort")
                    return
        finally:
            self.open_now -= 1

    async def generated(self):
        return self.made

    async def running(self):
        return self.open_now

    async def mend(self):
        if self.dead:
            raise ReasonerLost("the engine is dead")


class ToyJudge(Judge):
    """The same second word: the same answer. It reads questions of at most 50 words.

    alive: a list that is empty while it is gone.
    """

    name, parameters = "toy-judge", 500_000_000

    def __init__(self, alive):
        self.alive = alive
        if not alive:
            raise UserError("no judge can be opened")

    def _stream(self, requests):
        for position, r in enumerate(list(requests)):
            if not self.alive:
                raise RuntimeError("http://me:secret@judge: connection refused")
            if len(r.question.split()) > 50:
                raise PromptTooLong("a judge prompt is 2000 tokens, the judge reads at most 1024")
            yield position, Score(0.9 if r.prefix_a.split()[1:2] == r.prefix_b.split()[1:2] else 0.1, 50, 20)


class Endpoint:
    """A running endpoint. Settings as of Online/serve.py; url: its base; log: file of its answers."""

    def __init__(self, reasoner=None, log=None, judged=True, **changes):
        self.reasoner, self.alive = reasoner or ToyReasoner(), [True]
        self.settings = ServeSettings(
            reasoner="none",
            reasoner_name=self.reasoner.name,
            **({"judge": "random"} if judged else {}),
            **{"truncation_k": 1, "k1": 2, "probe_seconds": 0.05, "max_tokens": 64, "log": log and str(log)} | changes,
        )
        self.listener = bound(self.settings.host, 0)
        self.root = "http://{}:{}".format(*self.listener.getsockname())
        self.url = f"{self.root}/v1"
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)

    async def main(self):
        s, judge = self.settings, ToyJudge(self.alive) if self.settings.judged else None
        limits = {"in_flight": s.max_num_seqs, "questions": s.questions}
        answerer = Answerer.of(self.reasoner, judge, live_setup.how(s), **limits)
        log = Appender(s.log) if s.log else None
        self.server = server.server_of(s, answerer, lambda: ToyJudge(self.alive), log)
        async with answerer, self.server.desk.open():
            await self.server.serve(sockets=[self.listener])

    def __enter__(self):
        self.thread.start()
        until(lambda: getattr(self, "server", None) and self.server.started)
        return self

    def __exit__(self, *_):
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()

    def ask(self, method="adaptive-8", key=None, path="/v1/chat/completions", raw=None, **body):
        """(status, headers, JSON) of a question; raw: the body's bytes instead."""
        body = {"model": f"{NAME}-{method}", "messages": QUESTION} | body
        data = json.dumps(body).encode() if raw is None else raw
        return self.get(path, key, data)

    def get(self, path, key=None, data=None):
        """(status, headers, JSON or text) of an address."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(self.root + path, data, headers)
        try:
            answer = urllib.request.urlopen(request, timeout=600)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            return answer.status, answer.headers, json.loads(text) if text[:1] in "{[" else text

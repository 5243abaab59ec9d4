"""The judge on an OpenAI-compatible vLLM server: the same prompts, tokens and p_same as VLLMJudge.

    vllm serve JUDGE --hf-overrides '{"head_dtype": "float32"}' --port 8001

Several servers of the judge are a fleet (engines/servers.py): what one that dies was asked, the others answer.

JUDGE is a folder of full weights (`python -m deepprune.judges.weights folder ADAPTER` merges an adapter and prints it).
The override computes the logits in float32, as VLLMJudge does; the rest of the model stays in its own type (--dtype).
Without it the logits are rounded to bfloat16, and the two labels tie. --logprobs-mode stays as it is (raw_logprobs).

Needs of the completions endpoint: prompts as token ids, and vLLM's `logprob_token_ids`. No token is forbidden: the
labels' log-probabilities are those over the whole vocabulary. The first answer is checked to be so; rounded logits are
said.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import math
from collections.abc import Mapping, Sequence

from deepprune.base import console
from deepprune.base.errors import UserError
from deepprune.engines.servers import NO_ANSWER, Fleet, Server, ServerLost, check_one_model
from deepprune.judges.interface import NotAJudge, Request, Score
from deepprune.judges.label_judge import LabelJudge
from deepprune.judges.pair_prompts import Step
from deepprune.judges.settings import JudgeOptions

TOP = 5  # likeliest tokens asked for in the first answer
WHOLE = (
    "the judge needs log-probabilities over the whole vocabulary: start the server with --logprobs-mode raw_logprobs "
    "(the default)"
)


def logprobs_of(reply) -> dict[int, float | None]:
    """Log-probability by token id at the first generated position; NaN arrives as None.

    Raises one of NO_ANSWER if the reply holds none.
    """
    return {
        int(name.removeprefix("token_id:")): value for name, value in reply.choices[0].logprobs.top_logprobs[0].items()
    }


def not_whole(labels: Mapping[int, float], top: Mapping[int, float]) -> str | None:
    """Why these are not log-probabilities over the whole vocabulary; None if they may be.

    labels: as answered for the labels alone; top: the likeliest tokens as answered without naming any.
    """
    together = sum(math.exp(min(value, 50.0)) for value in top.values())
    if any(value > 0.001 for value in top.values()) or together > 1.01:
        return f"the likeliest {len(top)} tokens have a probability of {together:.3g} together"
    if any(value <= -9999.0 for value in top.values()):
        return "tokens are struck out before the log-probabilities are computed"
    least = min(top.values())
    for label, value in labels.items():
        # A label that is not among the likeliest is no likelier than they are. Half a nat is more than rounding makes.
        if abs(value - top[label]) > 0.5 if label in top else value > least + 0.5:
            there = f"{top[label]:.3f}" if label in top else f"at most {least:.3f}"
            return (
                f"the log-probability of the token {label} is {value:.3f} where the labels are asked for, "
                f"{there} where nothing is"
            )
    return None


def rounded(logprobs: Sequence[float]) -> bool:
    """Whether these log-probabilities come from logits in 16 bits: all gaps between them are multiples of 1/256.

    So they are in bfloat16 where logits are at least 0.5 in size, in float16 where they are at least 4. Four gaps in
    float32 all look so once in 400,000 times.
    """
    steps = [(value - logprobs[0]) * 256 for value in logprobs]
    return len(set(logprobs)) > 3 and all(abs(step - round(step)) < 0.02 for step in steps)


class ServerJudge(LabelJudge):
    """model: the served judge's folder or hub id (tokenizer, name, size); options.judge_url: of its servers."""

    def __init__(self, model: str, options: JudgeOptions):
        import openai

        super().__init__(model, options)
        self.fleet = Fleet([Server(url, options) for url in options.judge_url])
        self.clients = {server: server.client(openai.OpenAI) for server in self.fleet.servers}
        self.checked = False
        self.pool = concurrent.futures.ThreadPoolExecutor(options.batch * len(self.clients))
        for server, client in self.clients.items():
            try:
                server.choose(client.models.list())
            except (openai.APIError, *NO_ANSWER) as error:
                self.fleet.go_on_without(server, server.lost(error))
        check_one_model(self.fleet.servers)

    @property
    def context(self) -> int | None:
        """What every server reads, where they say it."""
        return min((server.context for server in self.fleet.servers if server.context), default=None)

    def _stream(self, requests):
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return
        if not self.checked:
            for server in list(self.fleet.servers):
                try:
                    self.calls_beside += 2
                    self._check_server(server, first)
                except ServerLost as error:
                    self.fleet.go_on_without(server, error)
            self.checked = True
        futures = {self.pool.submit(self._one, r): p for p, r in enumerate(itertools.chain([first], requests))}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()

    def _one(self, r: Request) -> Score:
        try:
            return self.fleet.run(functools.partial(self._score, r))
        except ServerLost as error:
            raise UserError(str(error)) from error

    def _score(self, r: Request, server: Server) -> Score:
        ids, at, cached = self.ids(r), {}, 0
        for step in self.prompts.steps:
            at[step], reply = self._label_logprobs(server, ids, step)
            if not step:
                details = getattr(reply.usage, "prompt_tokens_details", None)
                cached = (details.cached_tokens or 0) if details else 0
        p_same, mass = self.prompts.judged(at)
        return Score(p_same, self.prompts.read(ids), cached, label_mass=mass)

    def _ask(
        self, server: Server, ids: list[int], more: Mapping, logprobs: int
    ) -> tuple[dict[int, float | None], object]:
        """(log-probability by token id, the reply) to a prompt.

        Raises ServerLost, UserError for what the server refuses, and NotAJudge if it knows no token ids.
        """
        import openai

        # What the server would take from the model's generation_config otherwise.
        plain = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "return_tokens_as_token_ids": True}
        try:
            reply = self.clients[server].completions.create(
                model=server.served,
                prompt=ids,
                max_tokens=1,
                temperature=0.0,
                top_p=1.0,
                logprobs=logprobs,
                extra_body=plain | more,
            )
        except openai.APIError as error:
            raise server.lost(error) from error
        except NO_ANSWER as error:
            raise ServerLost(f"{server.shown}: answered what is no completion: {server.told(error)}") from error
        server.checked(reply)
        try:
            return logprobs_of(reply), reply
        except NO_ANSWER as error:
            raise NotAJudge(
                f"{server.shown} returns no log-probabilities by token id: a judge needs a vLLM server (0.20 or later)"
            ) from error

    def _label_logprobs(self, server: Server, ids: list[int], step: Step) -> tuple[dict[int, float], object]:
        """(log-probability of each token that a label goes on with, the reply). Raises NotAJudge unless each is one."""
        tokens = self.prompts.steps[step]
        at, reply = self._ask(server, [*ids, *step], {"logprob_token_ids": tokens}, len(tokens))
        for token in tokens:
            text, value = self.tokenizer.decode([token]), at.get(token, -math.inf)
            if token not in at:
                raise NotAJudge(
                    f"{server.shown} returns no log-probability of its label {text!r} (token {token}): the server must "
                    "know vLLM's logprob_token_ids (vLLM 0.20 or later)"
                )
            if value is None or not value <= 0.001:
                raise NotAJudge(
                    f"{server.shown} returns {value} as the log-probability of its label {text!r}: "
                    + ("its weights are not finite" if value is None or value != value else WHOLE)
                )
        return {token: at[token] for token in tokens}, reply

    def _check_server(self, server: Server, r: Request) -> None:
        """Compare what a first answer says of the labels with what it says of the likeliest tokens.

        Raises NotAJudge unless both are log-probabilities over the whole vocabulary. Says so if the logits are rounded.
        """
        ids = self.ids(r)
        labels = self._label_logprobs(server, ids, ())[0]
        top, _ = self._ask(server, ids, {}, TOP)
        if any(value is None or value != value for value in top.values()):
            raise NotAJudge(
                f"{server.shown} returns log-probabilities that are not numbers: its weights are not finite"
            )
        problem = not_whole(labels, top)
        if problem:
            raise NotAJudge(f"{server.shown}: {problem}; {WHOLE}")
        if rounded([*top.values(), *labels.values()]):
            print(
                f"{server.shown}: the judge's logits are rounded to 16 bits, so that its labels tie and thresholds "
                f'shift; serve it with --hf-overrides \'{{"head_dtype": "float32"}}\'',
                file=console.errors(),
            )

    def _rather(self, request):
        try:
            top, _ = self.fleet.run(lambda server: self._ask(server, self.ids(request), {}, TOP))
        except ServerLost:  # what it would rather answer is not known then
            return []
        likely = sorted(top.items(), key=lambda item: -item[1])[:TOP]
        return [(self.tokenizer.decode([token]), math.exp(value)) for token, value in likely]

    def close(self):
        self.pool.shutdown(cancel_futures=True)
        for client in self.clients.values():
            client.close()

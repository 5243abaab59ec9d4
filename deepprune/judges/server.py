"""The judge on an OpenAI-compatible vLLM server: the same prompts, tokens and p_same as VLLMJudge.

Needs of the completions endpoint: prompts as token ids, and vLLM's `allowed_token_ids` and `logprob_token_ids`.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time

from deepprune import models, prompts
from deepprune.errors import UserError, without_credentials
from deepprune.judges import Judge, Score, better
from deepprune.judges.weights import prepare
from deepprune.reasoners import NO_MODELS, api_key, backoff, passing, refusal


class ServerJudge(Judge):
    """model: the served judge's folder or hub id (for its tokenizer, name and size); url: as http://127.0.0.1:8001/v1."""

    def __init__(self, model: str, url: str, batch: int = 64, timeout_seconds: float = 120.0, retries: int = 4):
        import openai
        from transformers import AutoTokenizer

        self.name, folder = prepare(model)
        self.parameters = models.parameter_count(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.labels = prompts.label_token_ids(self.tokenizer)
        self.url, self.retries = without_credentials(url.rstrip("/")), retries
        self.client = openai.OpenAI(base_url=url.rstrip("/"), api_key=api_key(), timeout=timeout_seconds, max_retries=0)
        self.pool = concurrent.futures.ThreadPoolExecutor(batch)
        try:
            self.served = self.client.models.list().data[0].id
        except (openai.APIError, *NO_MODELS) as error:
            raise UserError(refusal(self.url, error)) from error

    def stream(self, requests):
        futures = {self.pool.submit(self._one, r): position for position, r in enumerate(requests)}
        try:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()

    def _one(self, r) -> Score:
        import openai

        ids = prompts.prompt_ids(self.tokenizer, r.question, r.prefix_a, r.prefix_b)
        for attempt in itertools.count():
            try:
                reply = self.client.completions.create(
                    model=self.served, prompt=ids, max_tokens=1, temperature=0.0, logprobs=2,
                    extra_body={"allowed_token_ids": list(self.labels), "logprob_token_ids": list(self.labels),
                                "return_tokens_as_token_ids": True},
                )  # fmt: skip
                break
            except openai.APIError as error:
                if attempt >= self.retries or not passing(error):
                    raise UserError(refusal(self.url, error, attempt + 1)) from error
                time.sleep(backoff(attempt))
        at = reply.choices[0].logprobs.top_logprobs[0]
        different, same = (at[f"token_id:{label}"] for label in self.labels)
        details = getattr(reply.usage, "prompt_tokens_details", None)
        cached = (details.cached_tokens or 0) if details else 0
        return Score(better(same, different), len(ids), cached)

    def close(self):
        self.pool.shutdown(cancel_futures=True)
        self.client.close()

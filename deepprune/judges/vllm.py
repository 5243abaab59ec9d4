"""The judge on vLLM: one prefill a pair, no sampling, the log-probabilities of the two label tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deepprune.base.errors import UserError
from deepprune.engines import engine, models
from deepprune.judges import prompts
from deepprune.judges.interface import Judge, Request, Score, better, mass
from deepprune.judges.settings import JudgeOptions
from deepprune.judges.weights import prepare

TOP = 5  # likeliest tokens, of a model that does not answer with its labels


class VLLMJudge(Judge):
    """p_same = softmax over the two label tokens' logits at the first generated position.

    The logits are always computed in float32: rounded to bfloat16, the two labels tie so often that AUROC and
    thresholds are spoilt. The rest of the model is in `dtype` ('auto': see runtime.compute_dtype).
    """

    def __init__(self, model: str, options: JudgeOptions):
        from transformers import AutoTokenizer

        self.name, folder = prepare(model)
        self.parameters = models.parameters(folder)
        self.labels_shown = prompts.LABELS
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.labels = prompts.label_token_ids(self.tokenizer)
        self.llm = engine.start(
            folder,
            dtype=options.dtype,
            max_model_len=options.max_model_len,
            max_num_seqs=options.batch,
            prefix_caching=options.prefix_caching,
            tensor_parallel=options.tensor_parallel,
            data_parallel=options.data_parallel,
            gpu_memory_utilization=options.gpu_memory_utilization,
            max_logprobs=max(len(self.labels), TOP),
            extra={"hf_overrides": {"head_dtype": "float32"}},
        )
        self.limit = self.llm.llm_engine.model_config.max_model_len - 1
        self.window = 4 * options.batch * options.data_parallel

    def _params(self, labels: Sequence[int]):
        """Sampling parameters of a request whose answer is one of these label tokens.

        vLLM's log-probabilities are those over the whole vocabulary, before allowed_token_ids (logprobs_mode
        raw_logprobs, its default): so the two labels' sum is what the model would have given them unasked.
        """
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            detokenize=False,
            logprob_token_ids=list(labels),
            logprobs=len(labels),
            allowed_token_ids=list(labels),
        )

    def _prompt(self, r: Request) -> dict[str, list[int]]:
        """The engine's prompt. Raises UserError if it is too long."""
        ids = prompts.prompt_ids(self.tokenizer, r.question, r.prefix_a, r.prefix_b)
        if len(ids) > self.limit:
            raise UserError(
                f"a judge prompt is {len(ids)} tokens (traces {r.trace_a}, {r.trace_b}), the judge reads at most "
                f"{self.limit}: raise max_model_len or truncate the traces shorter"
            )
        return {"prompt_token_ids": ids}

    def _stream(self, requests):
        different, same = self.labels
        params = self._params(self.labels)

        def prompts_of():
            for position, r in enumerate(requests):
                yield str(position), self._prompt(r), params

        for position, output in engine.run(self.llm, prompts_of(), self.window):
            at = output.outputs[0].logprobs[0]
            this, other = at[same].logprob, at[different].logprob
            cached = output.num_cached_tokens or 0
            yield (
                int(position),
                Score(better(this, other), len(output.prompt_token_ids), cached, label_mass=mass((this, other))),
            )

    def _rather(self, request):
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, detokenize=False, logprobs=TOP)
        ((_, output),) = engine.run(self.llm, [("rather", self._prompt(request), params)])
        likely = sorted(output.outputs[0].logprobs[0].items(), key=lambda item: -item[1].logprob)
        return [(self.tokenizer.decode([token]), math.exp(at.logprob)) for token, at in likely[:TOP]]

    def close(self):
        engine.shutdown(self.llm)

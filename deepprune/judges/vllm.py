"""The judge on vLLM: one prefill a pair, no sampling, the log-probabilities of the label tokens."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

from deepprune.engines import engine
from deepprune.judges.interface import Score
from deepprune.judges.label_judge import LabelJudge
from deepprune.judges.settings import JudgeOptions

TOP = 5  # likeliest tokens, of a model that does not answer with its labels


class VLLMJudge(LabelJudge):
    """p_same = the labels' normalised probability at the first generated position, or of all their tokens.

    The logits are always computed in float32: rounded to bfloat16, the two labels tie so often that AUROC and
    thresholds are spoilt. The rest of the model is in `dtype` ('auto': see runtime.compute_dtype). Labels of several
    tokens take a short prompt more for each token but the first; all of its beginning is in the prefix cache.
    """

    def __init__(self, model: str, options: JudgeOptions):
        super().__init__(model, options)
        self.llm = engine.start(
            self.folder,
            **options.of_engine(),
            max_model_len=options.max_model_len,
            prefix_caching=options.prefix_caching,
            max_logprobs=TOP,
            extra=options.engine_arguments(hf_overrides={"head_dtype": "float32"}),
        )
        self.context = self.llm.llm_engine.model_config.max_model_len
        self.batch = options.batch
        self.window = 4 * options.batch * options.data_parallel

    def _params(self, tokens: Sequence[int]):
        """Sampling parameters of a request whose answer is one of these tokens.

        vLLM's log-probabilities are those over the whole vocabulary, before allowed_token_ids (logprobs_mode
        raw_logprobs, its default): so the two labels' sum is what the model would have given them unasked.
        """
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            detokenize=False,
            logprob_token_ids=list(tokens),
            logprobs=len(tokens),
            allowed_token_ids=list(tokens),
        )

    def _stream(self, requests):
        steps = list(self.prompts.steps)
        params = [self._params(self.prompts.steps[step]) for step in steps]

        def prompt(position: int, ids: list[int], number: int):
            return f"{position}/{number}", {"prompt_token_ids": [*ids, *steps[number]]}, params[number]

        def prompts_of():
            later: collections.deque[tuple[int, list[int]]] = collections.deque()
            for position, ids in enumerate(map(self.ids, requests)):
                yield prompt(position, ids, 0)
                later.append((position, ids))
                if len(later) > self.batch:  # by now the prompt itself is in the prefix cache
                    yield from (prompt(*later[0], number) for number in range(1, len(steps)))
                    later.popleft()
            yield from (prompt(*waiting, number) for waiting in later for number in range(1, len(steps)))

        answers: dict[int, dict[tuple, object]] = {}
        for name, output in engine.run(self.llm, prompts_of(), self.window):
            position, number = map(int, name.split("/"))
            known = answers.setdefault(position, {})
            known[steps[number]] = output
            if len(known) == len(steps):
                yield position, self._score(answers.pop(position))

    def _score(self, outputs) -> Score:
        at = {
            step: {token: output.outputs[0].logprobs[0][token].logprob for token in self.prompts.steps[step]}
            for step, output in outputs.items()
        }
        p_same, mass = self.prompts.judged(at)
        first = outputs[()]
        read = self.prompts.read(first.prompt_token_ids)
        return Score(p_same, read, first.num_cached_tokens or 0, label_mass=mass)

    def _rather(self, request):
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, detokenize=False, logprobs=TOP)
        prompt = {"prompt_token_ids": self.ids(request)}
        ((_, output),) = engine.run(self.llm, [("rather", prompt, params)])
        likely = sorted(output.outputs[0].logprobs[0].items(), key=lambda item: -item[1].logprob)
        return [(self.tokenizer.decode([token]), math.exp(at.logprob)) for token, at in likely[:TOP]]

    def close(self):
        engine.shutdown(self.llm)

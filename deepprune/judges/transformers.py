"""The judge on plain transformers: the reference that the vLLM judge is compared with."""

from __future__ import annotations

import copy
from typing import Any

from deepprune.base import runtime
from deepprune.judges.interface import Score
from deepprune.judges.label_judge import LabelJudge
from deepprune.judges.settings import JudgeOptions


class TransformersJudge(LabelJudge):
    """The same p_same as VLLMJudge: one forward pass a batch (two for labels of several tokens)."""

    def __init__(self, model: str, options: JudgeOptions):
        import torch
        from transformers import AutoModelForCausalLM

        super().__init__(model, options, padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = runtime.compute_dtype(options.dtype)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=getattr(torch, dtype))
        self.model.to(self.device).eval()
        if self.model.dtype != torch.float32:
            # Logits in float32, as in VLLMJudge. A copy of the head: it may share its weights with the embedding.
            head = copy.deepcopy(self.model.get_output_embeddings()).float()
            head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
            self.model.set_output_embeddings(head)
        self.batch = options.batch
        limits = (options.max_model_len, longest_context(self.model.config))
        self.context = min((limit for limit in limits if limit), default=None)

    def _stream(self, requests):
        ids = [self.ids(r) for r in requests]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little padding
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            for i, at in zip(rows, self._label_logprobs([ids[i] for i in rows]), strict=True):
                p_same, mass = self.prompts.judged(at)
                yield i, Score(p_same, self.prompts.read(ids[i]), 0, label_mass=mass)

    def _label_logprobs(self, prompts: list[list[int]]) -> list[dict]:
        """Of each prompt the log-probabilities that PairPrompts.judged takes."""
        steps = self.prompts.steps
        result: list[dict] = [{} for _ in prompts]
        for last in {label[:-1] for label in self.prompts.labels}:
            logprobs = self._logits([[*ids, *last] for ids in prompts], len(last) + 1).log_softmax(-1)
            for place in range(len(last) + 1):
                step = last[:place]
                for row, values in zip(result, logprobs[:, place, steps[step]].tolist(), strict=True):
                    row[step] = dict(zip(steps[step], values, strict=True))
        return result

    def _logits(self, prompts: list[list[int]], positions: int):
        """(prompts, positions, vocabulary): float32 logits of each prompt's last positions."""
        import torch

        padded = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            return self.model(**padded, logits_to_keep=positions).logits[:, -positions:].float()

    def _rather(self, request):
        top = self._logits([self.ids(request)], 1)[0, -1].softmax(-1).topk(5)
        return [(self.tokenizer.decode([i]), p) for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)]

    def close(self):
        del self.model


def longest_context(config: Any) -> int | None:
    """Tokens that a model of this transformers config has positions for; None: the config does not say."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    positions = getattr(text, "max_position_embeddings", None)
    return positions and int(positions * max(1, rope.get("factor") or 1))

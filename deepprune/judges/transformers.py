"""The judge on plain transformers: the reference that the vLLM judge is compared with."""

from __future__ import annotations

import copy

from deepprune.base import runtime
from deepprune.engines import models
from deepprune.judges import prompts
from deepprune.judges.interface import Judge, Score
from deepprune.judges.settings import JudgeOptions
from deepprune.judges.weights import prepare


class TransformersJudge(Judge):
    """The same p_same as VLLMJudge: one forward pass a batch, logits of the last position only."""

    def __init__(self, model: str, options: JudgeOptions):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name, folder = prepare(model)
        self.parameters = models.parameters(folder)
        self.labels_shown = prompts.LABELS
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.labels = prompts.label_token_ids(self.tokenizer)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = runtime.compute_dtype(options.dtype)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(self.device).eval()
        if self.model.dtype != torch.float32:
            # Logits in float32, as in VLLMJudge. A copy of the head: it may share its weights with the embedding.
            head = copy.deepcopy(self.model.get_output_embeddings()).float()
            head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
            self.model.set_output_embeddings(head)
        self.batch = options.batch

    def _stream(self, requests):
        import torch

        requests = list(requests)
        ids = [prompts.prompt_ids(self.tokenizer, r.question, r.prefix_a, r.prefix_b) for r in requests]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little padding
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            padded = self.tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                logits = self.model(**padded, logits_to_keep=1).logits[:, -1].float()
            labels = logits[:, list(self.labels)]
            share = (labels.logsumexp(-1) - logits.logsumexp(-1)).exp()
            for i, p, mass in zip(rows, labels.softmax(-1)[:, 1].tolist(), share.tolist(), strict=True):
                yield i, Score(p, len(ids[i]), 0, label_mass=mass)

    def _rather(self, request):
        import torch

        ids = prompts.prompt_ids(self.tokenizer, request.question, request.prefix_a, request.prefix_b)
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids], device=self.device), logits_to_keep=1).logits[0, -1].float()
        top = logits.softmax(-1).topk(5)
        return [(self.tokenizer.decode([i]), p) for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)]

    def close(self):
        del self.model

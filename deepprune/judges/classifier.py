"""Classifiers as judges: AutoModelForSequenceClassification with two labels, or one logit as cross-encoders have it.

    python Offline/test_model_performance_parallel.py --judge classifier --model cross-encoder/stsb-roberta-base ...

Two labels: p_same is the softmax over them; the profile's label names tell which is which, LABEL_0 and LABEL_1 are
different and same. One logit (cross-encoders of sentence-transformers): p_same is its sigmoid. Kind `classifier` runs
on transformers, `vllm-classifier` on vLLM's pooling runner, for the models that it serves.

Without a profile the two texts of a cross-encoder are the question with the first prefix, and the second prefix. A
profile without `second` is one text: in the chat template where the tokenizer has one, else as it stands.
"""

from __future__ import annotations

import math
from typing import Any

from deepprune.base import console, runtime
from deepprune.base.errors import UserError
from deepprune.engines import engine, models
from deepprune.judges.interface import Judge, Request, Score
from deepprune.judges.profiles import CLASSIFIER, profile_of
from deepprune.judges.prompts import templated
from deepprune.judges.settings import JudgeOptions
from deepprune.judges.weights import identify

UNNAMED = {"LABEL_0": 0, "LABEL_1": 1}
AFTER_PADDING = ("roberta", "camembert", "mpnet", "longformer", "data2vec", "xmod")  # number positions from there on


class Classifier(Judge):
    """What both kinds share: tokens of a request, p_same of its logits."""

    def __init__(self, model: str, options: JudgeOptions):
        from transformers import AutoConfig, AutoTokenizer

        self.folder = models.resolve(model).path
        self.name = f"classifier:{identify(model).name}"
        self.parameters = models.parameters(self.folder)
        self.profile = profile_of(model, options.judge_profile, CLASSIFIER)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.config = AutoConfig.from_pretrained(self.folder)
        self.same = self._same_label()
        positions = getattr(self.config, "max_position_embeddings", 0)
        if positions and any(family in self.config.model_type for family in AFTER_PADDING):
            positions -= self.config.pad_token_id + 1
        limits = options.max_model_len, self.tokenizer.model_max_length, positions
        self.limit = min(limit for limit in limits if limit)
        self.dtype = runtime.compute_dtype(options.dtype)

    def _same_label(self) -> int | None:
        """Which logit is `same`; None where there is one logit. Raises UserError for other classifiers."""
        names = self.config.id2label
        if len(names) == 1:
            return None
        for known in ({name: label for label, name in enumerate(self.profile.labels)}, UNNAMED):
            if len(names) == 2 and set(names.values()) == set(known):
                return next(at for at, name in names.items() if known[name] == 1)
        raise UserError(
            f"{self.name}: its labels are {', '.join(map(str, names.values()))}; a classifier that judges has one "
            "logit, or two labels with the names that stand in its judge profile (--judge-profile)"
        )

    def _encode(self, r: Request) -> tuple[dict[str, list[int]], bool]:
        """(the model's inputs, whether the texts were cut to its limit)."""
        first = self.profile.user_message(r.question, r.prefix_a, r.prefix_b, self.tokenizer)
        second = self.profile.second_message(r.question, r.prefix_a, r.prefix_b, self.tokenizer)
        chat = second is None and bool(self.tokenizer.chat_template)
        if chat:
            first = templated(self.tokenizer, self.profile.system, first, **self.profile.chat_template)
        elif self.profile.system:
            first = f"{self.profile.system}\n\n{first}"
        whole = self.tokenizer(first, second, add_special_tokens=not chat, verbose=False)
        if len(whole["input_ids"]) <= self.limit:
            return dict(whole), False
        cut = {"truncation": True, "max_length": self.limit}
        return dict(self.tokenizer(first, second, add_special_tokens=not chat, **cut)), True

    def _score(self, logits: list[float], tokens: int) -> Score:
        gap = logits[0] if self.same is None else logits[self.same] - logits[1 - self.same]
        return Score(math.nan if gap != gap else 0.5 * (1 + math.tanh(gap / 2)), tokens)

    def _said(self, cut: int, of: int) -> None:
        if cut:
            console.detail(f"{cut} of {of} pairs are longer than the {self.limit} tokens that {self.name} reads: cut")


class ClassifierJudge(Classifier):
    """On transformers, batch by batch."""

    def __init__(self, model: str, options: JudgeOptions):
        import torch
        from transformers import AutoModelForSequenceClassification

        super().__init__(model, options)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch = options.batch
        dtype = getattr(torch, self.dtype)
        self.model = AutoModelForSequenceClassification.from_pretrained(self.folder, dtype=dtype).to(self.device).eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.config.pad_token_id = self.tokenizer.pad_token_id

    def _stream(self, requests):
        import torch

        encoded = [self._encode(r) for r in requests]
        inputs = [row for row, _ in encoded]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]["input_ids"]))  # little padding
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            padded = self.tokenizer.pad([inputs[i] for i in rows], return_tensors="pt").to(self.device)
            with torch.inference_mode():
                logits = self.model(**padded).logits.float().tolist()
            for i, values in zip(rows, logits, strict=True):
                yield i, self._score(values, len(inputs[i]["input_ids"]))
        self._said(sum(cut for _, cut in encoded), len(encoded))

    def close(self):
        del self.model


class VLLMClassifierJudge(Classifier):
    """On vLLM's pooling runner: logits as the model gives them, activated here."""

    def __init__(self, model: str, options: JudgeOptions):
        super().__init__(model, options)
        self.llm = engine.start(
            self.folder,
            **options.of_engine(),
            max_model_len=self.limit,
            extra=options.engine_arguments(
                runner="pooling",
                convert="classify",
                enable_prefix_caching=None if options.prefix_caching else False,  # vLLM knows which models can
            ),
        )
        self.window = 4 * options.batch * options.data_parallel

    def _stream(self, requests):
        cut = count = 0
        lengths: dict[str, int] = {}

        def prompts_of():
            nonlocal cut, count
            for position, request in enumerate(requests):
                inputs, was_cut = self._encode(request)
                cut, count = cut + was_cut, count + 1
                lengths[str(position)] = len(inputs["input_ids"])
                yield str(position), {"prompt_token_ids": inputs["input_ids"]}, self._params(inputs)

        for name, output in engine.run(self.llm, prompts_of(), self.window):
            yield int(name), self._score(output.outputs.data.float().tolist(), lengths.pop(name))
        self._said(cut, count)

    def _params(self, inputs: dict[str, list[int]]) -> Any:
        from vllm import PoolingParams

        types = inputs.get("token_type_ids", ())  # of which text a token is: 0 ... 0 1 ... 1
        more = {"extra_kwargs": {"compressed_token_type_ids": types.index(1)}} if 1 in types else {}
        return PoolingParams(task="classify", use_activation=False, **more)

    def close(self):
        engine.shutdown(self.llm)

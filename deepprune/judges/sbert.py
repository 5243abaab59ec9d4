"""Sentence-BERT: cosine similarity of the two prefixes (the paper's shallow predictor)."""

from __future__ import annotations

import numpy as np

from deepprune import models
from deepprune.judges import Judge, Score


class SentenceBertJudge(Judge):
    """p_same = (1 + cosine) / 2. Each prefix is encoded once for the life of the judge.

    The cosine is not a probability: AUROC and TNR@FNR are meaningful, the 0.5 threshold is not.
    """

    def __init__(self, model: str, batch: int = 64):
        from sentence_transformers import SentenceTransformer

        resolved = models.resolve(model)
        self.name = f"sbert:{resolved.name}"
        self.model = SentenceTransformer(resolved.path)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.batch = batch
        self.vectors: dict[str, np.ndarray] = {}
        self.tokens: dict[str, int] = {}

    def stream(self, requests):
        requests = list(requests)
        new = list(dict.fromkeys(t for r in requests for t in (r.prefix_a, r.prefix_b) if t not in self.vectors))
        if new:
            encoded = self.model.encode(new, batch_size=self.batch, normalize_embeddings=True)
            limit = self.model.max_seq_length
            self.vectors.update(zip(new, encoded, strict=True))
            self.tokens.update((t, min(limit, len(self.model.tokenizer.encode(t)))) for t in new)
        fresh = set(new)
        for position, r in enumerate(requests):
            cosine = float(np.dot(self.vectors[r.prefix_a], self.vectors[r.prefix_b]))
            counts = [self.tokens[t] for t in (r.prefix_a, r.prefix_b)]
            cached = sum(self.tokens[t] for t in (r.prefix_a, r.prefix_b) if t not in fresh)
            fresh -= {r.prefix_a, r.prefix_b}
            yield position, Score(min(1.0, max(0.0, (1.0 + cosine) / 2.0)), sum(counts), cached)

"""Sentence-BERT: cosine similarity of the two prefixes (the paper's shallow predictor)."""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepprune.base import console, jsonl, progress
from deepprune.base.errors import UserError
from deepprune.base.records import content_hash
from deepprune.engines import models
from deepprune.judges.interface import Judge, NotAJudge, Score
from deepprune.judges.settings import JudgeOptions
from deepprune.judges.weights import identify

CHUNK = 1024  # prefixes between two writes of the cache
MOST_KEPT = 2**16  # embeddings without a cache file: in a server that runs for months they would fill its memory


def p_same_of(cosine):
    """(1 + cosine) / 2 of a number or an array, kept in [0, 1] against rounding."""
    return np.clip((1.0 + cosine) / 2.0, 0.0, 1.0)


class SentenceBertJudge(Judge):
    """p_same = (1 + cosine) / 2. Each prefix is encoded once for the life of the judge, or of its cache file.

    Without that file all embeddings are forgotten when they are too many.

    The cosine is not a probability: AUROC and TNR@FNR are meaningful, the 0.5 threshold is not.
    """

    def __init__(self, model: str, options: JudgeOptions):
        from sentence_transformers import SentenceTransformer

        resolved, known = models.resolve(model), identify(model)
        self.name = f"sbert:{known.name}"
        try:
            self.model = SentenceTransformer(resolved.path)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"{resolved.name}: sentence-transformers cannot load it: {error}") from error
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.batch = options.batch
        self.cache = Path(options.cache) if options.cache else None
        self.weights = known.sha256
        self.vectors: dict[str, np.ndarray] = {}  # by content hash of the prefix
        self.tokens: dict[str, int] = {}  # word pieces of the whole prefix
        self.read: dict[str, np.ndarray] = {}  # by what of a prefix is read: longer ones of a trace are read alike
        if self.cache:
            self._load()

    @property
    def limit(self) -> float:
        """Word pieces of a prefix that are read; infinite where the encoder has no limit (static embeddings)."""
        limit = self.model.max_seq_length
        return math.inf if limit is None else limit

    def encode(self, prefixes: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """(normalized embeddings (n, d), word pieces read of each) of prefixes, each distinct one encoded once."""
        keys = [content_hash(p) for p in prefixes]
        self._encode({k: p for k, p in zip(keys, prefixes, strict=True) if k not in self.vectors})
        return np.stack([self.vectors[k] for k in keys]), [min(self.limit, self.tokens[k]) for k in keys]

    def _stream(self, requests):
        requests = list(requests)
        if self.cache is None and len(self.vectors) > MOST_KEPT:
            for by_prefix in (self.vectors, self.tokens, self.read):
                by_prefix.clear()
        limit = self.limit
        keys = [(content_hash(r.prefix_a), content_hash(r.prefix_b)) for r in requests]
        texts = {k: t for (a, b), r in zip(keys, requests, strict=True) for k, t in ((a, r.prefix_a), (b, r.prefix_b))}
        fresh = {k for k in texts if k not in self.vectors}
        self._encode({k: texts[k] for k in texts if k in fresh})
        over = sum(self.tokens[k] > limit for k in texts)
        if over:
            console.detail(
                f"{over} of {len(texts)} prefixes are longer than the {limit} word pieces that {self.name} reads"
            )
        for position, pair in enumerate(keys):
            cosine = float(np.dot(self.vectors[pair[0]], self.vectors[pair[1]]))
            read = [min(limit, self.tokens[k]) for k in pair]
            cached = sum(n for k, n in zip(pair, read, strict=True) if k not in fresh)
            fresh -= set(pair)
            yield position, Score(float(p_same_of(cosine)), sum(read), cached)

    def _encode(self, texts: dict[str, str]) -> None:
        """Add the embeddings of new prefixes, writing the cache after each chunk."""
        bar = progress.bar(
            total=len(texts), desc="encoding", unit="trace", leave=False, disable=len(texts) < self.batch
        )
        left = iter(texts.items())
        while chunk := list(itertools.islice(left, CHUNK)):
            keys, new = zip(*chunk, strict=True)
            read = self._what_is_read(list(new))
            unread = {r: text for r, text in zip(read, new, strict=True) if r not in self.read}
            if unread:
                encoded = self.model.encode(list(unread.values()), batch_size=self.batch, normalize_embeddings=True)
                if not np.isfinite(encoded).all():
                    raise NotAJudge("its embeddings are not finite: are its weights?")
                self.read.update(zip(unread, encoded, strict=True))
            self.vectors.update((key, self.read[r]) for key, r in zip(keys, read, strict=True))
            self.tokens.update(zip(keys, self._lengths(list(new)), strict=True))
            bar.update(len(keys))
            if self.cache:
                self._save()
        bar.close()

    def _what_is_read(self, texts: list[str]) -> list[str]:
        """A hash of the word pieces that are read of each text; of the text where the encoder has no limit."""
        tokenizer = self.model.tokenizer
        if math.isinf(self.limit) or not hasattr(tokenizer, "apply_chat_template"):
            return [content_hash(text) for text in texts]
        read = tokenizer(texts, truncation=True, max_length=self.limit, verbose=False)["input_ids"]
        return [content_hash(ids) for ids in read]

    def _lengths(self, texts: list[str]) -> list[int]:
        """Word pieces of each text, uncut.

        Tokenizers are of three kinds: transformers', tokenizers' (static embeddings), by words.
        """
        tokenizer = self.model.tokenizer
        if hasattr(tokenizer, "apply_chat_template"):
            return [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
        if hasattr(tokenizer, "encode_batch"):
            return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        if hasattr(tokenizer, "tokenize"):
            return [len(tokenizer.tokenize(text)) for text in texts]
        raise UserError(
            f"{self.name}: its tokenizer ({type(tokenizer).__name__}) does not say how many tokens a text has"
        )

    def _save(self) -> None:
        keys = list(self.vectors)
        with jsonl.atomic(self.cache) as file:
            np.savez(
                file,
                weights=np.asarray(self.weights),
                keys=np.asarray(keys),
                vectors=np.stack([self.vectors[k] for k in keys]),
                tokens=np.asarray([self.tokens[k] for k in keys]),
            )

    def _load(self) -> None:
        if not self.cache.is_file():
            return
        try:
            with np.load(self.cache, allow_pickle=False) as data:
                weights, keys = str(data["weights"]), data["keys"].tolist()
                self.vectors = dict(zip(keys, data["vectors"], strict=True))
                self.tokens = dict(zip(keys, data["tokens"].tolist(), strict=True))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.cache}: not a readable cache of embeddings ({error}); delete it") from error
        if weights != self.weights:
            raise UserError(
                f"{self.cache}: holds the embeddings of another encoder; delete it or choose another --cache"
            )

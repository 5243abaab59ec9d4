"""Sentence-BERT: how similar are two partial traces? The paper's shallow predictor (AUROC 0.58).

    python Preliminaries/sentence_bert_similarity.py --pairs DeepPrune_data/offline_test_data/deepprune_pairs.jsonl \
        --output results/demo/scores_sbert.jsonl

p_same = (1 + cosine) / 2 of the two truncated traces' embeddings: AUROC and TNR@0.2 are meaningful, accuracy at
0.5 is not. Traces are encoded in batches, each once: embeddings are kept in OUTPUT's .embeddings.npz, which a
killed run or another pairs file of the same traces (--cache) goes on from. The encoder reads a prefix's first 256
word pieces (all-MiniLM-L6-v2); how many prefixes are longer is printed.

A record: {"pair_id": "77ab...", "judge": "sbert:sentence-transformers/all-MiniLM-L6-v2", "p_same": 0.93,
           "verdict": true, "prompt_tokens": 151, "cached_tokens": 70}
"""

import dataclasses
from pathlib import Path

from deepprune import judges
from deepprune.base import config, manifest
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.judges import scoring


@dataclasses.dataclass
class SimilaritySettings(scoring.ScoringSettings):
    model: str = setting("sentence-transformers/all-MiniLM-L6-v2", "the sentence encoder: folder or hub id")
    batch: int = config.like(judges.JudgeSettings, "batch")
    cache: str | None = setting(None, "file of embeddings to reuse and extend (default: beside the output)", free=True)


@command
def main() -> None:
    settings = config.parse(SimilaritySettings, "similarity", __doc__)
    output = Path(settings.output)
    default = manifest.manifest_path(output).name.replace(".manifest.json", ".embeddings.npz")
    cache = settings.cache or output.with_name(default)
    described = judges.describe("sbert", settings.model)
    made_from = config.resolved(settings)
    made_from.pop("pairs"), made_from.pop("model")
    scoring.run(
        settings,
        described,
        lambda: judges.open_judge("sbert", settings.model, settings, cache=cache),
        made_from,
    )


if __name__ == "__main__":
    main()

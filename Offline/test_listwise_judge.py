"""How good is a list-wise judge? On the test items of stage 02 (--lists-per-problem), beside what needs no training.

    python Offline/test_listwise_judge.py --model models/Qwen2.5-0.5B-listwise-judge-lora --output results/listwise.jsonl

Two questions. Does the new trace fit a cluster at all? AUROC of 1 - p(none); beside it Sentence-BERT's highest cosine to a
representative, and the bare number of clusters (the more are open, the likelier one fits). And which? The share of traces that
fit one of several clusters for which the judge likes the right one best; beside it Sentence-BERT's nearest, the first cluster,
and chance. Brackets: 95 % bootstrap intervals over problems.

Writes a row an item, {"item_id": "77ab...", "judge": "judge@1f3c9a2b", "p_same": [0.61, 0.2], "label": 0}, and its manifest.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from deepprune import config, jsonl, judges, metrics, progress, prompts, records, runtime
from deepprune.config import setting
from deepprune.errors import UserError, command
from deepprune.judges import Request
from deepprune.manifest import Manifest
from deepprune.records import ListItem


@dataclasses.dataclass
class ListSettings:
    model: str = setting(config.REQUIRED, "the list-wise judge: folder, LoRA adapter folder or hub id")
    output: str = setting(
        config.REQUIRED, "JSONL file of the judge's scores; replaced when it exists", ends=config.PACKED
    )
    lists: str = setting(
        "DeepPrune_data/offline_test_data/deepprune_pairs_lists.jsonl", "JSONL file of ListItem records"
    )
    sbert: str = setting("sentence-transformers/all-MiniLM-L6-v2", "sentence encoder to compare with")
    dtype: str = config.dtype("the judge's weights' type")
    max_model_len: int | None = setting(None, "context length in tokens (default: the model's)", free=True, at_least=2)
    batch: int = setting(32, "prompts at once", free=True, at_least=1)
    resamples: int = setting(1000, "bootstrap resamples for the intervals", free=True, at_least=1)
    seed: int = config.seed("seed of the bootstrap")
    least_label_mass: float = judges.least_label_mass()


@command
def main() -> None:
    settings = config.parse(ListSettings, "listwise", __doc__)
    runtime.ensure()
    items = list(records.read(ListItem, settings.lists))
    if not items:
        raise UserError(f"{settings.lists}: no items")
    made = config.resolved(settings) | {"prompt_version": prompts.VERSION}
    manifest = Manifest.open(settings.output, "listwise", made, [settings.lists], overwrite=True)
    judges.note(manifest, judges.describe("listwise", settings.model))
    judge = judges.open_judge(
        "listwise", settings.model, dtype=settings.dtype, max_model_len=settings.max_model_len, batch=settings.batch,
        least_label_mass=settings.least_label_mass,
    )  # fmt: skip
    scores = scored(judge, items, 4 * settings.batch)
    judges.note_mass(manifest, judge.label_mass)
    judge.close()
    rows = [
        {"item_id": i.item_id, "judge": judge.name, "p_same": [round(p, 6) for p in some], "label": i.label}
        for i, some in zip(items, scores, strict=True)
    ]
    manifest.finish(jsonl.write(settings.output, rows))
    encoder = judges.open_judge("sbert", settings.sbert, batch=settings.batch)
    alike = scored(encoder, items, 4 * settings.batch)

    fits = [i.label is not None for i in items]
    print(
        f"{judge.name}: {len(items)} items of {len({i.problem_id for i in items})} problems; {sum(fits)} fit a cluster"
    )
    for name, any_of in (
        ("list-wise judge", [max(some) for some in scores]), (encoder.name, [max(some) for some in alike]),
        ("number of clusters", [float(len(i.representatives)) for i in items]),
    ):  # fmt: skip
        show(
            f"fits one at all, AUROC, {name}",
            items,
            any_of,
            lambda r, s: metrics.auroc([fits[x] for x in r], s[r]),
            settings,
        )
    several = [x for x, i in enumerate(items) if i.label is not None and len(i.representatives) > 1]
    if not several:
        return
    print(f"of {len(several)} that fit one of several clusters:")
    some = [items[x] for x in several]
    for name, right in (
        ("list-wise judge", [int(np.argmax(scores[x])) == items[x].label for x in several]),
        (encoder.name, [int(np.argmax(alike[x])) == items[x].label for x in several]),
        ("the first", [i.label == 0 for i in some]), ("chance", [1 / len(i.representatives) for i in some]),
    ):  # fmt: skip
        show(f"the right one, {name}", some, right, lambda r, s: float(s[r].mean()), settings)


def scored(judge: judges.Judge, items: Sequence[ListItem], at_once: int) -> list[list[float]]:
    """p_same of each item's representatives."""
    result: list[list[float]] = []
    with progress.bar(total=len(items), desc=judge.name, unit="item") as bar:
        for start in range(0, len(items), at_once):
            chunk = items[start : start + at_once]
            asked = [
                Request(i.question, r, i.new, f"{i.item_id}/{k}", i.item_id)
                for i in chunk for k, r in enumerate(i.representatives)
            ]  # fmt: skip
            flat = iter(judge.score(asked))
            result += [[next(flat).p_same for _ in i.representatives] for i in chunk]
            bar.update(len(chunk))
    return result


def show(name: str, items: Sequence[ListItem], values, statistic, settings: ListSettings) -> None:
    """Print a statistic(rows, values) with its interval."""
    values = np.asarray(values, dtype=np.float64)
    value, low, high = metrics.bootstrap(
        [i.problem_id for i in items], lambda r: statistic(r, values), settings.resamples, settings.seed
    )
    print(f"  {name:<60} {value:.3f} {metrics.in_brackets(low, high)}")


if __name__ == "__main__":
    main()

"""Does a judge beat what can be had without reading? Lengths, the question alone, surface features; fitted, no judge.

    python Preliminaries/fitted_references.py --reference lengths --fit results/study/offline_train_data/partial.jsonl \
        --pairs results/study/offline_test_data/partial.jsonl --output results/study/partial/scores_lengths.jsonl

    lengths    the two prefixes' lengths
    question   the question alone (its length, its kind): how likely do two traces of such a question agree?
    features   both, and what the two prefixes share: words, numbers, results of equations, option letters

A logistic regression on the pairs of training problems (stage 02 with --fitting-pairs), asked about the test pairs. A
question on both sides is refused. --fit-problems fits on fewer problems, for a learning curve.

A record: {"pair_id": "77ab...", "judge": "lengths", "p_same": 0.71, "verdict": true, "prompt_tokens": 0,
           "cached_tokens": 0}
"""

import dataclasses
import random

from deepprune.base import config, console, metrics, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.data import pairs
from deepprune.evaluate import references
from deepprune.judges import scoring


@dataclasses.dataclass
class ReferenceSettings:
    reference: str = setting(config.REQUIRED, "what is known of a pair", choices=tuple(references.REFERENCES))
    fit: str = setting(config.REQUIRED, "JSONL file of Pair records of training problems (stage 02, --fitting-pairs)")
    pairs: str = setting(config.REQUIRED, "JSONL file of Pair records to score (stage 02)")
    output: str = setting(config.REQUIRED, "JSONL file of PairScore records to write", ends=config.JSONL)
    fit_problems: int | None = setting(
        None, "fit on so many training problems, drawn by the seed (default: all)", at_least=1
    )
    resamples: int = config.resamples()
    seed: int = config.seed("seed of the drawn problems and of the bootstrap")


@command
def main() -> None:
    settings = config.parse(ReferenceSettings, "references", __doc__)
    training = list(records.read(records.Pair, settings.fit))
    tested = list(records.read(records.Pair, settings.pairs))
    for path, side in ((settings.fit, training), (settings.pairs, tested)):
        if not side:
            raise UserError(f"{path}: no pairs; make them with Offline/build_pair_dataset.py --fitting-pairs")
    pairs.check_leak(training, tested)
    training = of_fewer_problems(training, settings.fit_problems, settings.seed)
    model = references.fit(training, settings.reference)
    scores = references.predict(model, tested, settings.reference)
    problems = len({p.problem_id for p in training})
    name = settings.reference if settings.fit_problems is None else f"{settings.reference}, {problems} problems"
    rows = [
        records.PairScore(p.pair_id, name, float(score), bool(score > 0.5), 0, 0)
        for p, score in zip(tested, scores, strict=True)
    ]
    inputs = [settings.fit, settings.pairs]
    manifest = Manifest.open(settings.output, "references", config.resolved(settings), inputs, overwrite=True)
    table = metrics.judge_table(
        [p.label for p in tested], scores, [p.problem_id for p in tested], settings.resamples, settings.seed
    )
    manifest.write(map(records.to_row, rows), fitted_on=len(training), fitted_problems=problems, metrics=table)
    console.detail(f"{name}: fitted on {len(training)} pairs of {problems} problems, {len(tested)} pairs scored")
    scoring.show(table, 0, 0)


def of_fewer_problems(training: list[records.Pair], most: int | None, seed: int) -> list[records.Pair]:
    """The pairs of so many problems, drawn by the seed: fewer are part of more."""
    problems = sorted({p.problem_id for p in training})
    random.Random(seed).shuffle(problems)
    chosen = set(problems[:most])
    return [p for p in training if p.problem_id in chosen]


if __name__ == "__main__":
    main()

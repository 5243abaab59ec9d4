"""From which quality on, at which size, does a judge pay? Simulated judges at paper scale, from answers and lengths.

    python Online/does_a_judge_pay.py --answers aime24_answers.jsonl.gz aime25_answers.jsonl.gz \
        --output results/pays.jsonl

Reads what Online/simulate_paper_scale.py reads. Plays `posterior` over m0, b and thresholds, the staged and the paper's
rule with judges of every AUROC and every share of noise that comes from the two traces, beside cons@m and
Adaptive-Consistency over its batches, limits and thresholds. Judge tokens are prompt tokens that a perfect prefix cache
leaves to compute; each size weighs them.

Writes one row a problem (a killed run goes on), OUTPUT.csv (every setting and size), OUTPUT_summary.csv (what cons@8's
accuracy costs, over what it costs without a judge) and OUTPUT.png.
"""

import dataclasses
from pathlib import Path

import numpy as np

from deepprune.base import config, jsonl, progress
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.evaluate import judge_pays, judge_pays_figure, methods, simulation
from deepprune.evaluate.plotting import save
from deepprune.judges.pair_prompts import Frame


@dataclasses.dataclass
class PaysSettings:
    answers: list[str] = setting(config.REQUIRED, "JSONL files of answers and token counts")
    output: str = setting(config.REQUIRED, "JSONL file of results; appended to when it exists", ends=config.JSONL)
    aurocs: list[float] = setting([0.5, 0.65, 0.75, 0.87, 0.95, 1.0], "AUROC of the judges", at_least=0.5, at_most=1)
    shared: list[float] = setting([0.0, 0.5, 0.8], "shares of the noise from the two traces", at_least=0, below=1)
    question: float = setting(0.0, "share of the noise that is the question's, in all its pairs", at_least=0, below=1)
    ratios: list[float] = setting([0.05, 0.2, 0.5], "judge parameters / reasoner parameters", free=True, at_least=0)
    prefix_tokens: int = setting(500, "tokens of a prefix (a shorter trace is its own prefix)", at_least=1)
    frame: list[int] = setting([165, 9, 26], "tokens of the judge's prompt around the two prefixes", at_least=0)
    prefixes: int = setting(
        0, "posterior opens up to so many before another trace is finished (its `prefixes`; at least m0)", at_least=0
    )
    orders: int = setting(4, "random orders of the traces that are averaged over", at_least=2)
    resamples: int = config.resamples(free=True)
    seed: int = config.seed("seed of orders, simulated scores, clustering and bootstrap")
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(PaysSettings, "simulate", __doc__)
    if len(settings.frame) != 3:
        raise UserError(f"frame should be three numbers of tokens, found {settings.frame}")
    answered = simulation.read_answers(*settings.answers)
    base = Path(settings.output).with_suffix("")
    made_from = config.resolved(settings)
    made_from.pop("answers")
    if not settings.prefixes:  # as of before there was a choice
        made_from.pop("prefixes")
    places = [f"{base}.csv", f"{base}_summary.csv", f"{base}.png"]
    free = config.free_settings(PaysSettings)
    manifest = Manifest.open(
        settings.output, "simulate", made_from, settings.answers, free, settings.overwrite, also=places
    )
    with manifest.appender() as out:
        rows = {(r["dataset"], r["problem_id"]): r for _, r in jsonl.read(settings.output)}
        todo = [a for a in answered if (a.dataset, a.problem_id) not in rows]
        for a in progress.bar(todo, desc="problems", unit="problem"):
            rows[a.dataset, a.problem_id] = play(a, settings)
            out.append(rows[a.dataset, a.problem_id])
    results = [rows[a.dataset, a.problem_id] for a in answered]
    numbers = judge_pays.table(results, settings.ratios, settings.resamples, settings.seed)
    jsonl.write_text(places[0], numbers.round(6).to_csv(index=False))
    summary = judge_pays.summary(numbers)
    jsonl.write_text(places[1], summary.round(6).to_csv(index=False))
    what = f"{len(results)} problems, n = {results[0]['n']} traces, {settings.orders} orders"
    save(judge_pays_figure.drawn(numbers, summary, what), places[2])
    print(summary.round(3).to_string(index=False))
    manifest.finish(len(results))


def play(a: simulation.AnswerSet, settings: PaysSettings) -> dict:
    """One problem's row. Judges are drawn anew for each order."""
    prefixes = [min(length, settings.prefix_tokens) for length in a.lengths]
    traces = methods.TraceSet(a.problem_id, a.dataset, a.labels, a.right, a.lengths, prefixes)
    grid = methods.Grid(orders=settings.orders, seed=settings.seed)

    def judges(number: int) -> dict:
        key, result = f"{a.dataset}/{a.problem_id}/{number}", {}
        for auroc in settings.aurocs:
            for shared in settings.shared if 0.5 < auroc < 1.0 else settings.shared[:1]:
                scores = simulation.simulated_scores(a.labels, auroc, settings.seed, key, shared, settings.question)
                judged = methods.Judged(scores.astype(np.float64), 1.0, prefixes, Frame(*settings.frame))
                result[f"AUROC {auroc:g}, shared {shared:g}"] = (
                    judged,
                    simulation.simulated_calibration(auroc, shared, settings.question),
                )
        return result

    orders = [grid.order(traces, number) for number in range(settings.orders)]
    return judge_pays.played(traces, orders, judges, judge_pays.Posteriors(prefixes=settings.prefixes))


if __name__ == "__main__":
    main()

"""From which quality on, at which size, does a judge pay? Simulated judges at paper scale, from answers and lengths.

    python Online/does_a_judge_pay.py --answers aime24_answers.jsonl.gz aime25_answers.jsonl.gz \
        --output results/pays.jsonl

Reads what Online/simulate_paper_scale.py reads, or Trace records (with --problems). Plays `posterior` over m0, b and
thresholds, the staged and the paper's rule with judges of every AUROC and every share of noise that comes from the two
traces, beside cons@m and Adaptive-Consistency over its batches, limits and thresholds. Judge tokens are prompt tokens
that a perfect prefix cache leaves to compute; each size weighs them.

Writes one row a problem (a killed run goes on), OUTPUT.csv (every setting and size), OUTPUT_summary.csv (what cons@8's
accuracy costs, over what it costs without a judge) and OUTPUT.png (not with --apart).
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune.base import config, jsonl, progress
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.evaluate import judge_pays, judge_pays_figure, methods, question_sets, simulation
from deepprune.evaluate.plotting import save
from deepprune.judges.pair_prompts import Frame


@dataclasses.dataclass
class PaysSettings:
    answers: list[str] = setting(config.REQUIRED, "JSONL files of answers and token counts")
    problems: list[str] = setting([], "JSONL files of Problem records: --answers are files of Trace records then")
    apart: bool = setting(False, "tables of each data set, or of each file and reasoner of Trace records")
    scaled_to: int = setting(
        0, "lengths are scaled so that a data set's mean is so many tokens (0: as they are)", at_least=0
    )
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
    sets = question_sets.read(settings.answers, settings.problems, settings.apart)
    sets = [question_sets.cut(group, settings.prefix_tokens, settings.scaled_to) for group in sets]
    questions = [question for group in sets for question in group]
    if short := [q for q in questions if len(q.labels) < judge_pays.TARGET]:
        raise UserError(
            f"{short[0].dataset}: {len(short[0].labels)} traces a problem; cons@{judge_pays.TARGET} needs as many"
        )
    base = Path(settings.output).with_suffix("")
    made_from = config.resolved(settings)
    for name in ("answers", "problems"):  # inputs, with their hashes
        made_from.pop(name)
    for name in ("prefixes", "scaled_to", "apart"):  # as of before there was a choice
        if not made_from[name]:
            made_from.pop(name)
    figures = [] if settings.apart else [f"{base}.png"]
    places, inputs = [f"{base}.csv", f"{base}_summary.csv", *figures], [*settings.answers, *settings.problems]
    free = config.free_settings(PaysSettings)
    manifest = Manifest.open(settings.output, "simulate", made_from, inputs, free, settings.overwrite, also=places)
    with manifest.appender() as out:
        rows = {(r["dataset"], r["problem_id"]): r for _, r in jsonl.read(settings.output)}
        todo = [q for q in questions if (q.dataset, q.problem_id) not in rows]
        for question in progress.bar(todo, desc="problems", unit="problem"):
            rows[question.dataset, question.problem_id] = play(question, settings)
            out.append(rows[question.dataset, question.problem_id])
    results = [[rows[q.dataset, q.problem_id] for q in group] for group in sets]
    numbers, summary = tables(results, settings)
    jsonl.write_text(places[0], numbers.round(6).to_csv(index=False))
    jsonl.write_text(places[1], summary.round(6).to_csv(index=False))
    for place in figures:
        what = f"{len(questions)} problems, n = {len(questions[0].labels)} traces, {settings.orders} orders"
        save(judge_pays_figure.drawn(numbers, summary, what), place)
    print(summary.round(3).to_string(index=False))
    manifest.finish(len(questions))


def tables(groups: list[list[dict]], settings: PaysSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every setting, and what cons@8's accuracy costs: of the rows of each group (all, or a data set's)."""
    both: tuple[list, list] = [], []
    for rows in groups:
        numbers = judge_pays.table(rows, settings.ratios, settings.resamples, settings.seed)
        named = {"dataset": rows[0]["dataset"], "problems": len(rows)} if settings.apart else {}
        for parts, part in zip(both, (numbers, judge_pays.summary(numbers)), strict=True):
            parts.append(part.assign(**named))
    return pd.concat(both[0]), pd.concat(both[1])


def play(traces: methods.TraceSet, settings: PaysSettings) -> dict:
    """One problem's row. Judges are drawn anew for each order."""
    grid = methods.Grid(orders=settings.orders, seed=settings.seed)

    def judges(number: int) -> dict:
        key, result = f"{traces.dataset}/{traces.problem_id}/{number}", {}
        for auroc in settings.aurocs:
            for shared in settings.shared if 0.5 < auroc < 1.0 else settings.shared[:1]:
                scores = simulation.simulated_scores(
                    traces.labels, auroc, settings.seed, key, shared, settings.question
                )
                judged = methods.Judged(scores.astype(np.float64), 1.0, traces.prefixes, Frame(*settings.frame))
                result[f"AUROC {auroc:g}, shared {shared:g}"] = (
                    judged,
                    simulation.simulated_calibration(auroc, shared, settings.question),
                )
        return result

    orders = [grid.order(traces, number) for number in range(settings.orders)]
    return judge_pays.played(traces, orders, judges, judge_pays.Posteriors(prefixes=settings.prefixes))


if __name__ == "__main__":
    main()

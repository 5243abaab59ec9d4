"""At paper scale, from answers and lengths: how good and how cheap must a judge be to be worth it?

    python Online/simulate_paper_scale.py --answers aime24_answers.jsonl.gz aime25_answers.jsonl.gz \
        --output results/aime.jsonl

Reads one row a trace: {"dataset": "AIME24", "problem_id": "...", "gold": "204", "answer": "204", "n_tokens": 3856}.
The same clustering, finish rules, costs and baselines as for recorded traces: cons@m for every m (exact),
Adaptive-Consistency, ESC, and pruning with the oracle and with simulated judges of chosen AUROC, under every finish
rule. Averages over random orders of the traces; intervals over problems. Judge tokens are prompt tokens that a perfect
prefix cache leaves to compute, weighted by judge / reasoner parameters.

Writes one row a problem (a killed run goes on), OUTPUT.csv (every setting), OUTPUT.md (those to read first) and
figures. A row:
    {"problem_id": "...", "dataset": "AIME24", "n": 128, "length": 14021.5, "cons": [0.71, ...], "pass": [...],
     "longest": [...], "methods": [{"method": "adaptive-consistency", "judge": null, ..., "accuracy": 0.9, ...}, ...]}
"""

import dataclasses

from deepprune.base import config, jsonl, progress
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.evaluate import methods, methods_figures, question_sets, simulation
from deepprune.judges.pair_prompts import Frame


@dataclasses.dataclass
class SimulateSettings(methods.Grid):
    answers: list[str] = setting(config.REQUIRED, "JSONL files of answers and token counts")
    output: str = setting(config.REQUIRED, "JSONL file of results; appended to when it exists", ends=config.JSONL)
    aurocs: list[float] = setting(
        [0.6, 0.7, 0.8, 0.87, 0.9, 0.95, 0.99, 1.0], "AUROC of the judges (1.0: the oracle)", at_least=0.5, at_most=1
    )
    shared: float = setting(
        0.0, "share of a judge's noise that comes from the two traces instead of the pair", at_least=0, below=1
    )
    prefix_tokens: int = setting(500, "tokens of a prefix (a shorter trace is its own prefix)", at_least=1)
    frame: list[int] = setting(
        [165, 9, 26], "tokens of the judge's prompt before, between and after the two prefixes", at_least=0
    )
    judge_ratio: float = setting(
        0.5, "judge parameters / reasoner parameters (a 4B judge of an 8B reasoner: 0.5)", at_least=0
    )
    overwrite: bool = setting(False, "replace an existing output")


@command
def main() -> None:
    settings = config.parse(SimulateSettings, "simulate", __doc__)
    if len(settings.frame) != 3 or min(settings.frame) < 0:
        raise UserError(f"frame should be three numbers of tokens, found {settings.frame}")
    questions = question_sets.cut(question_sets.read(settings.answers)[0], settings.prefix_tokens)
    made_from = config.resolved(settings)
    made_from.pop("answers")
    manifest = Manifest.open(
        settings.output,
        "simulate",
        made_from,
        settings.answers,
        config.free_settings(SimulateSettings),
        settings.overwrite,
        also=methods_figures.places(settings.output),
    )
    with manifest.appender() as out:
        rows = {(r["dataset"], r["problem_id"]): r for _, r in jsonl.read(settings.output)}
        todo = [q for q in questions if (q.dataset, q.problem_id) not in rows]
        for traces in progress.bar(todo, desc="problems", unit="problem"):
            row = methods.compare(traces, settings, lambda number, t=traces: judges(t, number, settings))
            out.append(row)
            rows[traces.dataset, traces.problem_id] = row
    results = [rows[q.dataset, q.problem_id] for q in questions]
    names = ", ".join(sorted({r["dataset"] for r in results}))
    what = f"{names}: {len(results)} problems, n = {results[0]['n']} traces"
    methods_figures.write(results, settings, what, settings.output)
    manifest.finish(len(results))


def judges(traces: methods.TraceSet, number: int, settings: SimulateSettings) -> dict[str, methods.Judged]:
    """A simulated judge of each AUROC, drawn anew for each order."""
    key = f"{traces.dataset}/{traces.problem_id}/{number}"
    return {
        f"AUROC {auroc:g}": methods.Judged(
            simulation.simulated_scores(traces.labels, auroc, settings.seed, key, settings.shared),
            settings.judge_ratio,
            traces.prefixes,
            Frame(*settings.frame),
            calibration=simulation.simulated_calibration(auroc, settings.shared),
        )
        for auroc in settings.aurocs
    }


if __name__ == "__main__":
    main()

"""Stage 06: report.md, report.json and figures from a run's records.

    python scripts/06_report.py --run demo --output results/demo \
        --pairs DeepPrune_data/offline_test_data/demo.jsonl --scores results/demo/scores*.jsonl \
        --problems DeepPrune_data/problems/*.jsonl --traces DeepPrune_data/online_test_data/demo.jsonl \
        --pruning results/demo/pruning*.jsonl
    python scripts/06_report.py --run live --output results/live --problems DeepPrune_data/problems/words.jsonl \
        --traces results/live.traces.jsonl --pruning results/live.jsonl

Of the judge (--pairs, --scores), of pruning (--pruning, --problems, --traces), or of both. Every number comes from the
JSONL files given; their manifests are named in the report.
"""

import dataclasses
import json
from pathlib import Path

from deepprune.base import config, console, jsonl, locks, manifest, provenance, records
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.evaluate import plotting, report, report_page, report_runs
from deepprune.judges import scoring


@dataclasses.dataclass
class ReportSettings:
    output: str = setting(config.REQUIRED, "folder for report.md, report.json and PNG figures")
    pairs: str | None = setting(None, "JSONL file of Pair records")
    scores: list[str] = setting([], "JSONL files of PairScore records, one a judge, all of these pairs")
    problems: list[str] = setting([], "JSONL files of Problem records (for pruning)")
    traces: list[str] = setting([], "JSONL files of Trace records (for pruning)")
    pruning: list[str] = setting([], "JSONL files of Pruning records, one a run; each is set against its own traces")
    reasoner_parameters: float | None = setting(
        None, "the reasoner's parameters (default: from its name, as in '0.5B')", above=0
    )
    trained: str | None = setting(None, "folder of the judge that was trained, for the summary on the screen")
    run: str = setting("run", "title of the report")
    scale: str = setting("", "one sentence on the scale of this run")
    resamples: int = config.resamples()
    seed: int = config.seed("seed of the bootstrap")


@command
def main() -> None:
    settings = config.parse(ReportSettings, "report", __doc__)
    if bool(settings.pairs) != bool(settings.scores):
        raise UserError("--pairs and --scores go together")
    if not settings.pairs and not settings.pruning:
        raise UserError("nothing to report: give --pairs and --scores, or --pruning")
    out = Path(settings.output)
    pairs = list(records.read(records.Pair, settings.pairs)) if settings.pairs else []
    if settings.pairs and not pairs:
        raise UserError(f"{settings.pairs}: no pairs; make them with Offline/build_pair_dataset.py")
    scores = scoring.load(settings.scores, pairs)
    inputs = [
        *([settings.pairs] if settings.pairs else []),
        *settings.scores,
        *settings.problems,
        *settings.traces,
        *settings.pruning,
    ]
    for name in ("report.json", "report.md", "roc.png", "tokens_accuracy.png"):
        manifest.check_paths([out / name], inputs)
    locks.hold(out)
    numbers = {
        "run": settings.run,
        "scale": settings.scale,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "commit": provenance.code_commit(),
        "packages": provenance.package_versions(),
        "inputs": [describe(path) for path in inputs],
        "judges": report.judge_numbers(pairs, scores, settings.resamples, settings.seed),
    }
    curves = {
        judge: (
            [p.label for p in pairs],
            [by_id[p.pair_id].p_same for p in pairs],
            numbers["judges"][judge]["all"]["metrics"]["auroc"]["value"],
        )
        for judge, by_id in scores.items()
    }
    if scores:
        title = f"{len(pairs)} pairs of {len({p.problem_id for p in pairs})} unseen problems"
        plotting.save(plotting.roc(curves, title), out / "roc.png")
    if settings.pruning:
        numbers["pruning"] = pruning(settings)
        plotting.save(report_page.figure(numbers["pruning"]), out / "tokens_accuracy.png")
    jsonl.write_json(out / "report.json", numbers)
    page = report_page.to_markdown(numbers)
    jsonl.write_text(out / "report.md", page)
    console.log(page)
    figures = [name for name, drawn in (("roc.png", scores), ("tokens_accuracy.png", settings.pruning)) if drawn]
    print(*report_page.summary(numbers, trained(settings.trained)), sep="\n")
    print(f"report in {out / 'report.md'}, {', '.join(figures)}{console.log_place()}")


def trained(folder: str | None) -> dict | None:
    """The manifest of a judge's training. Raises UserError if there is none."""
    if folder is None:
        return None
    file = manifest.manifest_path(folder)
    if not file.is_file():
        raise UserError(f"{file}: no such file; --trained takes the output_dir of LLaMA-Factory/train.py")
    return json.loads(file.read_text())


def pruning(settings: ReportSettings) -> dict:
    """Numbers of the pruning part."""
    problems = records.read_problems(*settings.problems)
    runs: list[list[records.Pruning]] = []
    for path in settings.pruning:
        rows = list(records.read(records.Pruning, path))
        if not rows:
            raise UserError(f"{path}: no Pruning records; run stage 05 again")
        runs.append(rows)
    used = {r.problem_id for rows in runs for r in rows}
    missing = used - set(problems)
    if missing:
        raise UserError(f"{settings.pruning[0]}: problem {min(missing)} is in no --problems file")
    traces = [t for t in records.read(records.Trace, *settings.traces) if t.problem_id in used]
    model_of = {t.trace_id: t.model for t in traces}
    reasoners = [", ".join(sorted({model_of[t] for r in rows for t in r.finished if t in model_of})) for rows in runs]
    names = report_runs.names(runs)
    if len(set(reasoners)) > 1:
        names = [f"{name}, traces by {reasoner}" for name, reasoner in zip(names, reasoners, strict=True)]
    prunings, parameters = {}, {}
    for path, name, rows in zip(settings.pruning, names, runs, strict=True):
        if name in prunings:
            raise UserError(f"{path}: {name} with the same settings was given before; give each run once")
        prunings[name] = rows
        parameters[name] = judge_size(path, rows[0].judge)
    return report.pruning_numbers(
        problems, traces, prunings, parameters, settings.reasoner_parameters, settings.resamples, settings.seed
    )


def judge_size(path: str, judge: str) -> float | None:
    """A run's judge's parameters, from its manifest (0: no model; None: not known)."""
    if judge == "oracle" or judge.startswith("random-"):
        return 0
    beside = manifest.manifest_path(path)
    return json.loads(beside.read_text()).get("judge_parameters") if beside.is_file() else None


def describe(path: str) -> dict[str, str]:
    """Name, hash and, from its manifest, the commits that made an input."""
    beside = manifest.manifest_path(path)
    data = json.loads(beside.read_text()) if beside.is_file() else None
    commits = ["no manifest"] if data is None else manifest.commits(data)
    return {
        "file": Path(path).name,
        "sha256": provenance.file_hash(path),
        "commit": ", ".join(commits),
        "complete": data is None or data.get("complete", True),
    }


if __name__ == "__main__":
    main()

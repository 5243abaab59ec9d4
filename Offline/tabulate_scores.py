"""Several judges on the same test pairs, side by side: tables with intervals and figures.

    python Offline/tabulate_scores.py --pairs results/study/r1/pairs.jsonl --output Offline/results/r1 \
        --scores "Sentence-BERT=results/study/r1/scores_sbert.jsonl" \
                 "trained=results/study/r1/scores_qwen2.5-0.5b.jsonl"

AUROC (pooled over all pairs, and within problems: the mean of each problem's own), TNR@0.2, on all pairs and by
reasoner. With --traces also by how much of the traces the judge saw: a short trace ends before its k-th reasoning word,
so that its prefix is the whole trace and holds the answer. Differences of the last judge's AUROC to the others' are
paired over problems. Files that score other pairs are refused.

Writes OUTPUT.csv, OUTPUT.md, OUTPUT_roc.png, OUTPUT_auroc.png and a manifest.
"""

import dataclasses
from pathlib import Path

import pandas as pd

from deepprune.base import arguments, config, jsonl, metrics
from deepprune.base.config import setting
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.evaluate import plotting, study, tables

SEEN = ("both traces partial", "one whole trace", "both traces whole")


@dataclasses.dataclass
class TabulateSettings(study.TableSettings):
    traces: list[str] = setting([], "JSONL files of the pairs' Trace records: tell partial prefixes from whole traces")


@command
def main() -> None:
    settings = config.parse(TabulateSettings, "tabulate", __doc__)
    files = arguments.named("--scores", "NAME=FILE", settings.scores)
    data = study.frame(settings.pairs, files)
    manifest = Manifest.open(
        f"{settings.output}.json",
        "tabulate",
        {"resamples": settings.resamples, "seed": settings.seed, "judges": list(files)},
        [settings.pairs, *files.values(), *settings.traces],
        overwrite=True,
        also=[f"{settings.output}{end}" for end in (".csv", ".md", "_roc.png", "_auroc.png")],
    )
    parts = [study.table(data, None, settings.resamples, settings.seed)]
    if data["reasoner"].nunique() > 1 or settings.traces:
        parts.append(study.table(data, "reasoner", settings.resamples, settings.seed))
    if settings.traces:
        seen = study.how_much_is_seen(settings.pairs, {path: path for path in settings.traces})
        groups = data["reasoner"] + ", " + seen["whole"].map(dict(enumerate(SEEN)))
        parts.append(study.table(data.assign(reasoner=groups), "reasoner", settings.resamples, settings.seed))
    numbers = pd.concat(parts, ignore_index=True)
    write(numbers, data, settings)
    manifest.finish(len(data))


def write(numbers: pd.DataFrame, data: pd.DataFrame, settings: TabulateSettings) -> None:
    base, judges = settings.output, study.judges_of(data)
    title = f"{len(data)} pairs of {data['problem_id'].nunique()} problems, {data['label'].mean():.0%} same"
    shown = study.readable(numbers)
    shown["same"] = shown["same"].map("{:.2f}".format)
    lines = [f"{title}; 95 % intervals over problems", "", tables.markdown(shown)]
    lines += ["", f"AUROC of {judges[-1]} minus the others', paired over problems:", ""]
    for reasoner, rows in [("all", data), *data.groupby("reasoner", sort=True)]:
        for judge in judges[:-1]:
            value, low, high = study.difference(
                rows, judges[-1], judge, metrics.auroc, settings.resamples, settings.seed
            )
            difference = (
                "n/a (one class)" if pd.isna(value) else f"{value:+.3f} {metrics.in_brackets(low, high, '+.3f')}"
            )
            lines.append(f"- {reasoner}: {difference} over {judge}")
    jsonl.write_text(f"{base}.md", "\n".join(lines) + "\n")
    jsonl.write_text(f"{base}.csv", numbers.to_csv(index=False))
    curves = {j: (data["label"], data[j], metrics.auroc(data["label"], data[j])) for j in judges}
    plotting.save(plotting.roc(curves, title), f"{base}_roc.png")
    plotting.save(
        plotting.grouped(numbers.dropna(subset=["AUROC"]), "AUROC", title, reference=0.5),
        f"{base}_auroc.png",
    )
    print("\n".join(lines))
    print(", ".join(str(Path(f"{base}{end}")) for end in (".csv", ".md", "_roc.png", "_auroc.png")))


if __name__ == "__main__":
    main()

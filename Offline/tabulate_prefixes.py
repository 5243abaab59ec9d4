"""How early can one tell? Several judges on the same pairs cut at several places, by source, partial pairs beside all.

    python Offline/tabulate_prefixes.py --pairs results/study/partial/pairs.jsonl --output Offline/results/partial \\
        --traces "R1-8B, MATH500=results/study/partial/r1_distill_llama8b_math500.jsonl" \\
        --scores "Sentence-BERT=results/study/partial/scores_sbert.jsonl" \\
                 "lengths=results/study/partial/scores_lengths.jsonl"

A pair is partial where both prefixes end before their traces. AUROC (pooled over a source's pairs, and within problems)
and TNR@0.2 with 95 % intervals over problems, at each cut, for each source (a file of traces, as NAME=FILE) and all. At
each cut also the last judge's AUROC minus the others', on partial pairs, paired over problems.

Writes OUTPUT.csv, OUTPUT.md, OUTPUT_length.png (AUROC on partial pairs against the length of a prefix),
OUTPUT_length_within.png (within problems) and a manifest; of judges whose names end in ", N rows" the largest is drawn
there, and all in OUTPUT_curve.png; of names that end in ", N problems" none.
"""

import dataclasses
import re

import pandas as pd

from deepprune.base import arguments, config, jsonl, metrics
from deepprune.base.config import setting
from deepprune.base.manifest import Manifest
from deepprune.base.stage import command
from deepprune.evaluate import plotting, study, tables

MOST_LINES = 6
SIZE = re.compile(r"(?P<name>.+), (?P<size>\d+) (?P<unit>rows|problems)")
FIGURES = {"length": "AUROC", "length_within": "AUROC within problems"}


@dataclasses.dataclass
class PrefixSettings(study.TableSettings):
    pairs: str = setting(config.REQUIRED, "JSONL file of Pair records at several cuts (stage 02, --test-cuts)")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of the pairs' Trace records, as SOURCE=FILE")


@command
def main() -> None:
    settings = config.parse(PrefixSettings, "prefixes", __doc__)
    files = arguments.named("--scores", "NAME=FILE", settings.scores)
    sources = arguments.named("--traces", "SOURCE=FILE", settings.traces)
    data = study.frame(settings.pairs, files).join(study.how_much_is_seen(settings.pairs, sources))
    manifest = Manifest.open(
        f"{settings.output}.json",
        "prefixes",
        {"resamples": settings.resamples, "seed": settings.seed, "judges": list(files), "sources": list(sources)},
        [settings.pairs, *files.values(), *sources.values()],
        overwrite=True,
        also=[f"{settings.output}{end}" for end in (".csv", ".md", *(f"_{figure}.png" for figure in FIGURES))],
    )
    numbers = study.by_prefix(data, settings.resamples, settings.seed)
    jsonl.write_text(f"{settings.output}.csv", numbers.to_csv(index=False))
    text = page(numbers, data, settings)
    jsonl.write_text(f"{settings.output}.md", text)
    draw(numbers[numbers["seen"] == "partial"], settings.output)
    print(text)
    manifest.finish(len(data))


def draw(partial: pd.DataFrame, output: str) -> None:
    """The figures, of the numbers on partial pairs."""
    about = "both prefixes partial; 95 % intervals over problems"
    judges = list(dict.fromkeys(partial["judge"]))
    curves: dict[str, list[tuple]] = {}
    for judge in judges:
        size = SIZE.fullmatch(judge)
        if size and size["unit"] == "rows":
            curves.setdefault(size["name"], []).append((judge, int(size["size"])))
    largest = {max(points, key=lambda point: point[1])[0] for points in curves.values()}
    shown = [judge for judge in judges if judge in largest or not SIZE.fullmatch(judge)][-MOST_LINES:]
    at_cuts = partial[(partial["cut"] != "all") & partial["judge"].isin(shown)]
    for figure, column in FIGURES.items():
        plotting.save(plotting.against_length(at_cuts, column, f"{column}, {about}"), f"{output}_{figure}.png")
    if any(len(points) > 1 for points in curves.values()):
        together = partial[(partial["source"] == "all") & (partial["cut"] == "all")].set_index("judge")
        lines = {
            name: [(rows, *together.loc[judge, ["AUROC", "AUROC low", "AUROC high"]]) for judge, rows in points]
            for name, points in curves.items()
        }
        levels = {judge: together.loc[judge, "AUROC"] for judge in shown if judge not in largest}
        plotting.save(plotting.learning_curve(lines, levels, f"AUROC, {about}"), f"{output}_curve.png")


def page(numbers: pd.DataFrame, data: pd.DataFrame, settings: PrefixSettings) -> str:
    """The Markdown file: every number, and the last judge against the others."""
    shown = study.readable(numbers)
    shown["characters"] = shown["characters"].map("{:,.0f}".format)
    for name in ("share", "same"):
        shown[name] = shown[name].map("{:.2f}".format)
    title = f"{len(data)} pairs of {data['problem_id'].nunique()} problems at {data['cut'].nunique()} cuts"
    about = "characters and share of the trace: medians of a prefix; brackets: 95 % intervals over problems"
    lines = [f"{title}; {about}", "", tables.markdown(shown), ""]
    *others, last = study.judges_of(data)
    lines += [f"AUROC of {last} minus the others' on partial pairs, paired over problems:", ""]
    partial = data[data["whole"] == 0]
    for cut, pairs in [("all cuts", partial), *partial.groupby("cut", sort=False)]:
        for judge in others:
            value, low, high = study.difference(pairs, last, judge, metrics.auroc, settings.resamples, settings.seed)
            lines.append(f"- {cut}: {value:+.3f} {metrics.in_brackets(low, high, '+.3f')} over {judge}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""A run's numbers (deepprune/evaluate/report.py) for people: the page, the summary on the screen, and the figure."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from deepprune.base import metrics
from deepprune.evaluate import paper, plotting, report_runs, tables
from deepprune.evaluate.report import ADAPTIVE, ORDERS, Number
from deepprune.judges.leaks import leak_of

UNKNOWN = "unknown"


def _interval(row: Number | None, form: str = ",.3f", missing: str = "not known", why: str = "") -> str:
    """value [low, high]. missing: where there is no row; why: a value cannot be told."""
    if row is None:
        return missing
    if math.isnan(row["value"]):
        return f"n/a{why}"
    return f"{row['value']:{form}} {metrics.in_brackets(row['low'], row['high'], form)}"


def to_markdown(numbers: dict) -> str:
    """The report page; figures are linked by their file names."""
    about = (
        f"{numbers['scale']} Brackets: 95 % bootstrap intervals over problems ({numbers['resamples']} resamples, "
        f"seed {numbers['seed']}). Made by commit `{numbers['commit']}`; every input's manifest is listed at the end."
    )
    parts = [f"# DeepPrune: {numbers['run']}", about.lstrip()]
    if numbers["judges"]:
        parts += _judges(numbers["judges"])
    if numbers.get("pruning"):
        parts += _pruning(numbers["pruning"])
    names = [
        *numbers["judges"],
        *(row["judge"] for row in (numbers.get("pruning") or {}).get("deepprune", {}).values()),
    ]
    parts += [f"**{leak}.**" for leak in filter(None, map(leak_of, dict.fromkeys(names)))]
    inputs = [
        {
            "file": row["file"],
            "SHA-256 (first 12)": f"`{row['sha256'][:12]}`",
            "made by commit": f"`{row['commit']}`" + ("" if row.get("complete", True) else ", not complete"),
        }
        for row in numbers["inputs"]
    ]
    return "\n\n".join([*parts, "## Inputs", tables.markdown(inputs)]) + "\n"


def _judges(judges: dict) -> list[str]:
    parts = ["## The judge: do two partial traces end in the same answer?"]
    for subset, head in next(iter(judges.values())).items():
        title = "All test pairs" if subset == "all" else f"Traces by {subset}"
        parts.append(
            f"**{title}**: {head['pairs']} pairs of {head['problems']} problems, {head['same_share']:.1%} same answer."
        )
        rows = []
        for judge, by_subset in judges.items():
            m = by_subset[subset]["metrics"]
            rows.append(
                {
                    "judge": judge,
                    "AUROC": _interval(m["auroc"], why=" (one class)"),
                    "AUROC within problems": _interval(m["within_problem_auroc"], why=" (one class)"),
                    "TNR@0.2": _interval(m["tnr_at_0.2_fnr"], why=" (one class)"),
                    "accuracy": _interval(m["accuracy"]),
                    "prompt tokens": f"{by_subset[subset]['prompt_tokens']:,}",
                }
            )
        parts.append(tables.markdown(rows))
    stated = [
        {"judge": judge, "AUROC": row["auroc"], "TNR@0.2": row.get("tnr_at_0.2_fnr")}
        for judge, row in paper.JUDGES.items()
    ]
    parts += ["The paper, for comparison (other reasoners, other problems, a 4B judge):", tables.markdown(stated)]
    return [*parts, "![ROC](roc.png)"]


def _pruning(p: dict) -> list[str]:
    """The runs, each set against pass@1 and cons@n of the traces that it pruned."""
    baselines = p["baselines"]
    parts = ["## Pruning: greedy clustering, a few finished traces, a vote"]
    if len(baselines) > 1:
        parts.append("The runs did not prune the same traces: each is set against its own.")
    for title, baseline in baselines.items():
        parts += _about(title, baseline)
    parts.append(_methods(p))
    if any(b["others"] for b in baselines.values()):
        parts.append(
            f"cons@m below n: any m of the traces; the others without a judge: means over {ORDERS} orders of them."
        )
    parts += _unknown_sizes(p)
    parts.append(
        "Whole cost over all problems of a run (cached: what a perfect prefix cache saves; of a live run what its "
        "engine counted):"
    )
    parts.append(tables.markdown([_cost_row(name, row) for name, row in p["deepprune"].items()]))
    return [*parts, "![tokens against accuracy](tokens_accuracy.png)"]


def _about(title: str, b: dict) -> list[str]:
    """What a baseline is of, and what is not known of it."""
    among = "finished traces" if b["live"] or b["stopped"] else "n traces"
    n = f"{b['n'][0]} to {b['n'][-1]}" if isinstance(b["n"], list) else b["n"]
    parts = [
        f"{title}: {b['problems']} problems, n = {n} traces each by {', '.join(b['reasoner'])}. A right answer is "
        f"among the {among} of {b['oracle_coverage']['value']:.1%} of the problems."
    ]
    if b["live"]:
        tokens = "estimated from the lengths of the finished traces" if b["cons@n"]["tokens"] else "not known"
        parts.append(
            "A live run: what was pruned was never generated. So pass@1 and the vote of cons@n are not known here, and "
            f"the tokens of cons@n are {tokens}, as is the token reduction."
        )
    elif b["stopped"]:
        parts.append(
            "Some of these traces were stopped by live pruning: pass@1, cons@n and the token reduction are not known "
            "here."
        )
    return parts


def _methods(p: dict) -> str:
    """The table of methods; with what each is set against, where that differs."""
    several = len(p["baselines"]) > 1
    rows = [row for title, b in p["baselines"].items() for row in _baseline_rows(title, b, several)]
    for name, row in p["deepprune"].items():
        rows.append(
            {
                "method": report_runs.title(name, row["judge"]),
                "set against": row["against"] if several else None,
                "accuracy": _interval(row["accuracy"]),
                "difference to cons@n": _interval(row["accuracy_minus_cons@n"]),
                "reasoner tokens a problem": _interval(row["tokens"], ",.0f"),
                "token reduction, judge not counted": _interval(row["reduction"], ".1%", UNKNOWN),
                "token reduction, judge counted": _interval(row["reduction_with_judge"], ".1%", UNKNOWN),
                "clusters": f"{row['clusters']:.1f}",
                "finished": f"{row['finished']:.1f}",
            }
        )
    return tables.markdown(pd.DataFrame(rows, columns=list(rows[-1])).dropna(axis=1, how="all"))


def _baseline_rows(title: str, b: dict, several: bool) -> list[dict[str, str]]:
    """pass@1, cons@n and what needs no judge."""
    of = f" of {title.removeprefix('cons@')}" if several else ""
    rows = [("pass@1" + of, b["pass@1"], None, "1")] if b["pass@1"] else []
    rows.append((title if several else "cons@n", b["cons@n"], "0", "n"))
    rows += [
        (name + of, row, _interval(row["reduction"], ".1%"), f"{row['traces']:.1f}")
        for name, row in b["others"].items()
    ]
    return [
        {
            "method": name,
            "accuracy": _interval(row["accuracy"]),
            "difference to cons@n": _interval(row["accuracy_minus_cons@n"]) if "traces" in row else saved,
            "reasoner tokens a problem": _interval(row["tokens"], ",.0f"),
            "token reduction, judge not counted": saved,
            "token reduction, judge counted": saved,
            "finished": finished,
        }
        for name, row, saved, finished in rows
    ]


def _cost_row(name: str, row: dict) -> dict[str, str]:
    known = row["judge_parameters"] is not None and row["reasoner_parameters"]
    s = row["sums"]
    return {
        "judge": name,
        "problems": row["problems"],
        "prefix tokens": f"{s['prefix']:,}",
        "rest of finished": f"{s['rest']:,}",
        "total": f"{s['total']:,}",
        "cons@n": UNKNOWN if s["consensus"] is None else f"{s['consensus']:,}",
        "judge calls": f"{row['judge_calls']:,}",
        "judge prompt tokens": f"{row['judge_tokens']:,}",
        "cached": f"{row['judge_cached_tokens']:,}",
        "judge parameters / reasoner's": (
            f"{row['judge_parameters'] / row['reasoner_parameters']:.2f}" if known else UNKNOWN
        ),
    }


def _unknown_sizes(p: dict) -> list[str]:
    """Why a judge's cost is unknown, a sentence a reason."""
    runs = p["deepprune"]
    judges = [judge for judge, row in runs.items() if row["judge_parameters"] is None]
    reasoners = sorted(
        {
            ", ".join(p["baselines"][row["against"]]["reasoner"])
            for row in runs.values()
            if not row["reasoner_parameters"] and row["judge_parameters"] != 0
        }
    )
    parts = []
    if judges:
        parts.append(
            f"The size of the judge of {'; '.join(judges)} is not known (no manifest of the run says it), so what it "
            "costs is unknown, not nothing; the figure leaves it out."
        )
    if reasoners:
        parts.append(
            f"The size of the reasoner ({'; '.join(reasoners)}) is not known (--reasoner-parameters tells it), so what "
            "a judge costs beside it is unknown; the figure leaves it out."
        )
    return parts


def summary(numbers: dict, trained: dict | None = None) -> list[str]:
    """The run in at most nine lines. trained: the manifest of the judge's training, which the first judge should be."""
    lines = []
    if trained:
        settings, minutes = trained["settings"], trained["wall_seconds"] / 60
        loss = "focal loss" if settings["use_focal_loss"] else "cross-entropy"
        of = trained["models"]["judge"].split(" (")[0]
        lines.append(
            ("trained", f"{of} ({settings['finetuning_type']}, {loss}) on {trained['rows']} pairs in {minutes:.1f} min")
        )
    judges = [(judge, row["all"]) for judge, row in numbers["judges"].items()]
    for judge, row in judges[:1]:
        area, rate = (_interval(row["metrics"][name]) for name in ("auroc", "tnr_at_0.2_fnr"))
        of = f"{row['pairs']} pairs of {row['problems']} problems"
        lines.append(("judge", f"{judge}: AUROC {area}, TNR@0.2 {rate}; {of}"))
    beside = "; ".join(f"{judge} {_interval(row['metrics']['auroc'])}" for judge, row in judges[1:])
    if beside:
        lines.append(("beside it", f"AUROC of {beside}"))
    if numbers.get("pruning"):
        lines += _pruning_summary(numbers["pruning"])
    width = max((len(name) for name, _ in lines), default=0) + 2
    return [f"{name:<{width}}{text}" for name, text in lines[:9]]


def _pruning_summary(p: dict) -> list[tuple[str, str]]:
    """What was pruned, what that saved, what saves as much without a judge, and the limits."""
    runs = p["deepprune"]
    first = next(iter(runs.values()))
    base = p["baselines"][first["against"]]
    n = base["n"][-1] if isinstance(base["n"], list) else base["n"]
    size = ""
    if first["judge_parameters"] and first["reasoner_parameters"]:
        size = f"; the judge has {first['judge_parameters'] / first['reasoner_parameters']:.2f} of its parameters"
    lines = [("pruned", f"{base['problems']} problems x {n} traces of {', '.join(base['reasoner'])}{size}")]
    if base["cons@n"]["accuracy"]:
        tokens = base["cons@n"]["tokens"]["value"]
        lines.append(
            (first["against"], f"accuracy {_interval(base['cons@n']['accuracy'])}, {tokens:,.0f} tokens a problem")
        )
    own = {name: row for name, row in runs.items() if row["judge"] == first["judge"]}
    rules = [row["rule"] for row in own.values()]
    for name, row in list(own.items())[:3]:
        against = f", against {row['against']}" if row["against"] != first["against"] else ""
        lines.append(("pruning", f"{row['rule'] if rules.count(row['rule']) == 1 else name}: {_saved(row)}{against}"))
    others = base["others"]
    if others:
        alike = [row for row in own.values() if row["against"] == first["against"]]
        spent = min((row["tokens_with_judge"] or row["tokens"])["value"] for row in alike)
        cons = [name for name, row in others.items() if name.startswith("cons@") and row["tokens"]["value"] <= spent]
        shown = [name for name in (ADAPTIVE, *cons[-1:]) if name in others]
        lines.append(("no judge", "; ".join(f"{name} {_saved(others[name])}" for name in shown)))
    limits = [f"{name}: {_saved(row)}" for name, row in runs.items() if name not in own]
    return lines + ([("limits", "; ".join(limits))] if limits else [])


def _saved(row: dict) -> str:
    text = f"accuracy {_interval(row['accuracy'])}"
    if row["reduction"]:
        text += f", {row['reduction']['value']:.1%} of the tokens saved"
    if row.get("judge_tokens"):
        counted = row["reduction_with_judge"]
        text += f", {counted['value']:.1%} with the judge counted" if counted else f", with the judge counted {UNKNOWN}"
    return text


def figure(p: dict) -> Any:
    """Tokens against accuracy: cons@m, pass@1, Adaptive-Consistency, and DeepPrune by judge, judge counted if known."""
    several, points, lines, left_out = len(p["baselines"]) > 1, {}, {}, []
    for title, b in p["baselines"].items():
        of = f" of {title.removeprefix('cons@')}" if several else ""
        for name, row in ((title if several else "cons@n", b["cons@n"]), (f"pass@1{of}", b["pass@1"])):
            if row and row["accuracy"]:
                points[name] = row
        points |= {f"{name}{of}": row for name, row in b["others"].items() if name.startswith(ADAPTIVE)}
        smaller = [row for name, row in b["others"].items() if name.startswith("cons@")]
        if smaller:
            lines[f"cons@m{of}"] = [
                tuple(row[k]["value"] for k in ("tokens", "accuracy")) for row in (*smaller, b["cons@n"])
            ]
    drawn = {name: {key: _triple(row[key]) for key in ("tokens", "accuracy")} for name, row in points.items()}
    for name, row in p["deepprune"].items():
        asked = row["judge_tokens"] and row["judge_parameters"] and row["tokens_with_judge"]
        counted = _triple(row["tokens_with_judge"]) if asked else None
        point = {"tokens": _triple(row["tokens"]), "accuracy": _triple(row["accuracy"]), "counted": counted}
        drawn[report_runs.title(name, row["judge"])] = point
        if row["tokens_with_judge"] is None:
            left_out.append(name)
    title = "; ".join(f"{b['problems']} problems, {name}" for name, b in p["baselines"].items()) + ", 95 % intervals"
    if left_out:
        title += f"\nwith the judge counted not drawn, because a size is not known: {'; '.join(left_out)}"
    return plotting.tokens_against_accuracy(drawn, title, lines)


def _triple(row: Number) -> tuple[float, float, float]:
    return row["value"], row["low"], row["high"]

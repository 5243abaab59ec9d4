"""The numbers of a run, from its records alone, and the page that shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepprune import answers, costs, metrics
from deepprune.errors import UserError
from deepprune.records import Pair, PairScore, Problem, Pruning, Trace

# The paper's figures (arXiv 2510.08483; v1 unless marked).
PAPER_JUDGES = {
    "Sentence-BERT, first 500 tokens": {"auroc": 0.58},
    "Qwen3-4B-Instruct-2507, zero-shot": {"auroc": 0.66},
    "DeepPrune-Judge-4B, v2 (unseen problems)": {"auroc": 0.7072},
    "DeepPrune-Judge-4B, v1 (problems overlap)": {"auroc": 0.8701, "tnr_at_0.2_fnr": 0.8186},
}


def judge_numbers(pairs: Sequence[Pair], scores: dict[str, dict[str, PairScore]], resamples: int, seed: int) -> dict:
    """Metrics of each judge on all pairs and per reasoner model.

    scores: judge -> pair id -> score. Every judge must have scored every pair (KeyError otherwise: callers
    check first). Returns judge -> subset -> metrics, counts and judge tokens.
    """
    subsets = {"all": list(pairs)}
    reasoners = sorted({p.model for p in pairs})
    if len(reasoners) > 1:
        subsets |= {model: [p for p in pairs if p.model == model] for model in reasoners}
    result: dict[str, dict] = {}
    for judge, by_id in scores.items():
        result[judge] = {}
        for name, some in subsets.items():
            rows = [by_id[p.pair_id] for p in some]
            result[judge][name] = {
                "pairs": len(some),
                "problems": len({p.problem_id for p in some}),
                "same_share": float(np.mean([p.label for p in some])),
                "metrics": metrics.judge_table(
                    [p.label for p in some], [r.p_same for r in rows], [p.problem_id for p in some], resamples, seed
                ),
                "prompt_tokens": sum(r.prompt_tokens for r in rows),
                "cached_tokens": sum(r.cached_tokens for r in rows),
            }
    return result


def _mean(values: Sequence[float], resamples: int, seed: int) -> dict[str, float]:
    """Mean over problems with its bootstrap interval."""
    data = np.asarray(values, dtype=np.float64)
    value, low, high = metrics.bootstrap(range(len(data)), lambda rows: float(data[rows].mean()), resamples, seed)
    return {"value": value, "low": low, "high": high}


def pruning_numbers(
    problems: dict[str, Problem], traces: Sequence[Trace], prunings: dict[str, Sequence[Pruning]],
    judge_parameters: dict[str, float], reasoner_parameters: float | None, resamples: int, seed: int,
) -> dict:  # fmt: skip
    """Accuracy and tokens a problem of pass@1, cons@n and each judge's pruning, on the same problems.

    An unknown answer counts as wrong. Token reductions are ratios of sums over problems, with intervals over
    problems; `equivalent` adds the judge's computed prompt tokens weighted by the parameter ratio (None where
    the reasoner's size is not known).

    Traces of a live run (some were aborted): pass@1 and the vote of cons@n are not known (None), its tokens are the
    run's own estimate, and coverage is that of the finished traces. Raises UserError for several live runs at once.
    """
    ids = sorted(next(iter(prunings.values())), key=lambda p: p.problem_id)
    ids = [p.problem_id for p in ids]
    groups: dict[str, list[Trace]] = {i: [] for i in ids}
    for trace in traces:
        if trace.problem_id in groups:
            groups[trace.problem_id].append(trace)
    live = any(t.pruned for group in groups.values() for t in group)
    if live and len(prunings) > 1:
        raise UserError("every live run has traces of its own: report them one at a time")
    if live:
        estimates = {p.problem_id: p.tokens["consensus"] for p in next(iter(prunings.values()))}
        consensus_tokens = np.asarray([estimates[i] for i in ids], dtype=np.float64)
    else:
        consensus_tokens = np.asarray([sum(t.n_tokens for t in groups[i]) for i in ids], dtype=np.float64)
        votes = [answers.majority([t.answer for t in groups[i]], problems[i].answer_type) for i in ids]
        voted = np.asarray([
            float(answers.same(v, problems[i].gold, problems[i].answer_type) is True)
            for i, v in zip(ids, votes, strict=True)
        ])  # fmt: skip
        single = [float(np.mean([t.correct is True for t in groups[i]])) for i in ids]
    n = sorted({len(g) for g in groups.values()})
    result = {
        "problems": len(ids),
        "n": n[0] if len(n) == 1 else n,
        "reasoner": sorted({t.model for g in groups.values() for t in g}),
        "reasoner_parameters": reasoner_parameters,
        "live": live,
        "pass@1": None if live else {
            "accuracy": _mean(single, resamples, seed),
            "tokens": _mean([float(np.mean([t.n_tokens for t in groups[i]])) for i in ids], resamples, seed),
        },
        "cons@n": {
            "accuracy": None if live else _mean(voted, resamples, seed),
            "tokens": _mean(consensus_tokens, resamples, seed),
        },
        "oracle_coverage": _mean([float(any(t.correct is True for t in groups[i])) for i in ids], resamples, seed),
        "deepprune": {},
    }
    for judge, rows in prunings.items():
        by_id = {p.problem_id: p for p in rows}
        rows = [by_id[i] for i in ids]
        spent = np.asarray([p.tokens["total"] for p in rows], dtype=np.float64)
        right = np.asarray([float(p.correct is True) for p in rows])
        equivalent = None
        if reasoner_parameters:
            equivalent = spent + np.asarray([
                costs.equivalent_tokens(p.judge_tokens, p.judge_cached_tokens, judge_parameters.get(judge, 0), reasoner_parameters)
                for p in rows
            ])  # fmt: skip

        def reduction(used: np.ndarray) -> dict[str, float]:
            value, low, high = metrics.bootstrap(
                range(len(ids)),
                lambda r, used=used: costs.reduction(float(used[r].sum()), float(consensus_tokens[r].sum())),
                resamples, seed,
            )  # fmt: skip
            return {"value": value, "low": low, "high": high}

        result["deepprune"][judge] = {
            "accuracy": _mean(right, resamples, seed),
            "accuracy_minus_cons@n": None if live else _mean(right - voted, resamples, seed),
            "tokens": _mean(spent, resamples, seed),
            "tokens_with_judge": None if equivalent is None else _mean(equivalent, resamples, seed),
            "reduction": reduction(spent),
            "reduction_with_judge": None if equivalent is None else reduction(equivalent),
            "sums": {kind: int(sum(p.tokens[kind] for p in rows)) for kind in ("prefix", "rest", "total", "consensus")},
            "clusters": float(np.mean([len(p.clusters) for p in rows])),
            "finished": float(np.mean([len(p.finished) for p in rows])),
            "judge_calls": sum(p.judge_calls for p in rows),
            "judge_tokens": sum(p.judge_tokens for p in rows),
            "judge_cached_tokens": sum(p.judge_cached_tokens for p in rows),
            "judge_parameters": judge_parameters.get(judge, 0),
        }
    return result


def names(runs: Sequence[Sequence[Pruning]]) -> list[str]:
    """A name for each pruning run: its judge, which comparisons it was asked for if not all, and what else tells it apart
    from other runs of the same judge.
    """
    settings = [run[0].settings for run in runs]
    result = []
    for run, own in zip(runs, settings, strict=True):
        others = [s for other, s in zip(runs, settings, strict=True) if other[0].judge == run[0].judge]
        parts = [run[0].judge]
        if own.get("comparisons", "all") != "all":
            parts.append(own["comparisons"])
        parts += [
            f"{key} {value}" for key, value in own.items()
            if key != "comparisons" and any(key in s and s[key] != value for s in others)
        ]  # fmt: skip
        result.append(", ".join(parts))
    return result


def _interval(row: dict[str, float] | None, digits: int = 3, percent: bool = False) -> str:
    if row is None:
        return "not known"
    if math.isnan(row["value"]):
        return "n/a (one class)"
    form = ".1%" if percent else f",.{digits}f"
    return f"{row['value']:{form}} {metrics.in_brackets(row['low'], row['high'], form)}"


def to_markdown(numbers: dict) -> str:
    """The report page; figures are linked by their file names."""
    lines = [
        f"# DeepPrune: {numbers['run']}",
        "",
        f"{numbers['scale']} Brackets: 95 % bootstrap intervals over problems ({numbers['resamples']} resamples, "
        f"seed {numbers['seed']}). Made by commit `{numbers['commit']}`; every input's manifest is listed at the end.",
        "",
    ]
    if numbers["judges"]:
        lines += _judge_lines(numbers)
    if numbers.get("pruning"):
        lines += _pruning_lines(numbers["pruning"])
    lines += ["## Inputs", "", "| file | SHA-256 (first 12) | made by commit |", "|---|---|---|"]
    for row in numbers["inputs"]:
        lines.append(f"| {row['file']} | `{row['sha256'][:12]}` | `{row['commit']}` |")
    return "\n".join(lines) + "\n"


def _judge_lines(numbers: dict) -> list[str]:
    lines = ["## The judge: do two partial traces end in the same answer?", ""]
    for subset in next(iter(numbers["judges"].values())):
        head = next(iter(numbers["judges"].values()))[subset]
        title = "All test pairs" if subset == "all" else f"Traces by {subset}"
        lines += [
            f"**{title}**: {head['pairs']} pairs of {head['problems']} problems, {head['same_share']:.1%} same answer.",
            "",
            "| judge | AUROC | AUROC within problems | TNR@0.2 | accuracy | prompt tokens (cached) |",
            "|---|---|---|---|---|---|",
        ]
        for judge, row in numbers["judges"].items():
            m = row[subset]["metrics"]
            cells = [_interval(m[k]) for k in ("auroc", "within_problem_auroc", "tnr_at_0.2_fnr", "accuracy")]
            cached = row[subset]["cached_tokens"] / max(row[subset]["prompt_tokens"], 1)
            lines.append(f"| {judge} | {' | '.join(cells)} | {row[subset]['prompt_tokens']:,} ({cached:.0%}) |")
        lines.append("")
    lines += ["The paper, for comparison (other reasoners, other problems, a 4B judge):", "",
              "| judge | AUROC | TNR@0.2 |", "|---|---|---|"]  # fmt: skip
    for judge, row in PAPER_JUDGES.items():
        lines.append(f"| {judge} | {row['auroc']} | {row.get('tnr_at_0.2_fnr', '')} |")
    return [*lines, "", "![ROC](roc.png)", ""]


def _pruning_lines(p: dict) -> list[str]:
    among = "finished traces" if p["live"] else "n traces"
    lines = [
        "## Pruning: greedy clustering, a few finished traces, a vote",
        "",
        f"{p['problems']} problems, n = {p['n']} traces each by {', '.join(p['reasoner'])}. A right answer is "
        f"among the {among} of {p['oracle_coverage']['value']:.1%} of the problems.",
        "",
    ]
    if p["live"]:
        lines += [
            "A live run: what was pruned was never generated. So pass@1 and the vote of cons@n are not known here, and the "
            "tokens of cons@n are estimated from the lengths of the finished traces.",
            "",
        ]
    lines += [
        "| method | accuracy | difference to cons@n | reasoner tokens a problem | token reduction, judge not counted "
        "| token reduction, judge counted | clusters | finished |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if p["pass@1"]:
        lines.append(f"| pass@1 | {_interval(p['pass@1']['accuracy'])} | | {_interval(p['pass@1']['tokens'], 0)} | | | | 1 |")
    lines.append(f"| cons@n | {_interval(p['cons@n']['accuracy'])} | 0 | {_interval(p['cons@n']['tokens'], 0)} | 0 | 0 | | n |")
    for judge, row in p["deepprune"].items():
        lines.append(
            f"| DeepPrune, {judge} | {_interval(row['accuracy'])} | {_interval(row['accuracy_minus_cons@n'])} "
            f"| {_interval(row['tokens'], 0)} | {_interval(row['reduction'], percent=True)} "
            f"| {_interval(row['reduction_with_judge'], percent=True)} | {row['clusters']:.1f} | {row['finished']:.1f} |"
        )
    lines += ["", "Whole cost over all problems:", "",
              "| judge | prefix tokens | rest of finished | total | cons@n | judge calls | judge prompt tokens | cached "
              "| judge parameters / reasoner's |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for judge, row in p["deepprune"].items():
        ratio = f"{row['judge_parameters'] / p['reasoner_parameters']:.2f}" if p["reasoner_parameters"] else "unknown"
        s = row["sums"]
        lines.append(
            f"| {judge} | {s['prefix']:,} | {s['rest']:,} | {s['total']:,} | {s['consensus']:,} | {row['judge_calls']:,} "
            f"| {row['judge_tokens']:,} | {row['judge_cached_tokens']:,} | {ratio} |"
        )
    return [*lines, "", "![tokens against accuracy](tokens_accuracy.png)", ""]

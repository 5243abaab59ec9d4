"""The numbers of a run, from its records alone, and the page that shows them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence

import numpy as np

from deepprune.base import metrics
from deepprune.base.errors import UserError
from deepprune.base.records import Pair, PairScore, Problem, Pruning, Trace
from deepprune.data import answers
from deepprune.evaluate import comparison, paper
from deepprune.prune import costs, prefixes


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
            }
    return result


def _mean(values: Sequence[float], resamples: int, seed: int) -> dict[str, float]:
    """Mean over problems with its bootstrap interval."""
    data = np.asarray(values, dtype=np.float64)
    value, low, high = metrics.bootstrap(range(len(data)), lambda rows: float(data[rows].mean()), resamples, seed)
    return {"value": value, "low": low, "high": high}


def is_live(run: Sequence[Pruning]) -> bool:
    """Whether a run pruned traces while they were generated: what it did not generate is not known."""
    return any(p.settings.get("live") for p in run)


def own_traces(name: str, run: Sequence[Pruning], traces: Sequence[Trace]) -> dict[str, list[Trace]]:
    """The traces that a run pruned, by problem, in the order in which they arrived.

    traces: at least these. How many there were, and their order, stands in the records' settings; records of before
    that tell it by their tokens of cons@n. Raises UserError if a trace is missing.
    """
    groups: dict[str, list[Trace]] = {p.problem_id: [] for p in run}
    for trace in traces:
        if trace.problem_id in groups:
            groups[trace.problem_id].append(trace)
    result = {}
    for pruning in run:
        group, settings = groups[pruning.problem_id], pruning.settings
        used = {t for cluster in pruning.clusters for t in cluster} | set(pruning.finished)
        models = {t.model for t in group if t.trace_id in used}
        group = sorted((t for t in group if t.model in models), key=lambda t: (t.model, t.sample_index))
        n = settings.get("n")
        if is_live(run):
            n = None  # some were never started
        elif n is None:
            lengths = list(itertools.accumulate(t.n_tokens for t in group))
            told = pruning.tokens.get("consensus")
            n = lengths.index(told) + 1 if told in lengths else None
        elif len(group) < n:
            lacking = used - {t.trace_id for t in group}
            which = f", among them not {min(lacking)}" if lacking else ""
            raise UserError(
                f"{name}: pruned {n} traces of problem {pruning.problem_id}, of which {len(group)} are in the --traces "
                f"files{which}: give all of them"
            )
        own = prefixes.arrival(group, n, settings.get("order", "recorded"), settings.get("seed", 0), pruning.problem_id)
        lacking = used - {t.trace_id for t in own}
        if lacking:
            raise UserError(
                f"{name}: trace {min(lacking)} is in no --traces file, or not among the first {n} of its problem"
            )
        result[pruning.problem_id] = own
    return result


def _size(n: Sequence[int]) -> str:
    """How many traces a problem has, for people: '16', or '6 to 16' where problems differ."""
    return str(min(n)) if min(n) == max(n) else f"{min(n)} to {max(n)}"


def _baseline(
    problems: dict[str, Problem], run: Sequence[Pruning], own: dict[str, list[Trace]], resamples: int, seed: int
) -> tuple[dict, np.ndarray | None, np.ndarray | None]:
    """(pass@1 and cons@n of a run's own traces; by problem of `own`: is the vote of cons@n right; its tokens).

    What is not known is None: of a live run (and of traces that one stopped) all that rests on traces which were not
    generated to the end. A live run's tokens of cons@n are its own estimate.
    """
    live = is_live(run)
    stopped = any(t.pruned for group in own.values() for t in group)
    ids = list(own)
    consensus = voted = single = None
    if live:
        estimates = {p.problem_id: p.tokens["consensus"] for p in run}
        if all(estimates.values()):  # 0: not a single trace ended, from which it could be told
            consensus = np.asarray([estimates[i] for i in ids], dtype=np.float64)
    elif not stopped:
        consensus = np.asarray([sum(t.n_tokens for t in own[i]) for i in ids], dtype=np.float64)
        votes = [answers.majority([t.answer for t in own[i]], problems[i].answer_type) for i in ids]
        voted = np.asarray(
            [
                float(answers.same(v, problems[i].gold, problems[i].answer_type) is True)
                for i, v in zip(ids, votes, strict=True)
            ]
        )
        single = {
            "accuracy": _mean([float(np.mean([t.correct is True for t in own[i]])) for i in ids], resamples, seed),
            "tokens": _mean([float(np.mean([t.n_tokens for t in own[i]])) for i in ids], resamples, seed),
        }
    n = sorted({p.settings.get("n") or len(own[p.problem_id]) for p in run})
    result = {
        "problems": len(ids),
        "n": n[0] if len(n) == 1 else n,
        "order": run[0].settings.get("order", "recorded"),
        "reasoner": sorted({t.model for group in own.values() for t in group}),
        "live": live,
        "stopped": stopped,
        "pass@1": single,
        "cons@n": {
            "accuracy": None if voted is None else _mean(voted, resamples, seed),
            "tokens": None if consensus is None else _mean(consensus, resamples, seed),
        },
        "others": {} if voted is None else _others(problems, own, voted, consensus, resamples, seed),
        "oracle_coverage": _mean([float(any(t.correct is True for t in own[i])) for i in ids], resamples, seed),
    }
    return result, voted, consensus


ORDERS = 20  # of the traces, over which Adaptive-Consistency is averaged
ADAPTIVE = "Adaptive-Consistency"


def _others(
    problems: dict[str, Problem],
    own: dict[str, list[Trace]],
    voted: np.ndarray,
    consensus: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, dict]:
    """What needs no judge, by name: cons@m for powers of two below n (any m of the traces), and Adaptive-Consistency.

    voted, consensus: of cons@n, by problem. Each: accuracy, its difference to cons@n, tokens a problem, their reduction, traces.
    """
    grid = comparison.Grid(orders=ORDERS, seed=seed)
    rows = [comparison.compare(comparison.question(problems[i], own[i]), grid, lambda number: {}) for i in own]
    lengths = np.asarray([row["length"] for row in rows])
    fewest = min(row["n"] for row in rows)
    methods = {
        f"cons@{m}": ([row["cons"][m - 1] for row in rows], m * lengths, np.full(len(rows), m))
        for m in (2**i for i in range(1, 30))
        if m < fewest
    }
    for at, method in enumerate(rows[0]["methods"]):
        if method["method"].startswith("adaptive-consistency"):
            found = [row["methods"][at] for row in rows]
            name = method["method"].replace("adaptive-consistency", ADAPTIVE)
            methods[name] = tuple([row[field] for row in found] for field in ("accuracy", "tokens", "opened"))
    return {
        name: {
            "accuracy": _mean(right, resamples, seed),
            "accuracy_minus_cons@n": _mean(np.asarray(right) - voted, resamples, seed),
            "tokens": _mean(tokens, resamples, seed),
            "reduction": _reduction(np.asarray(tokens), consensus, resamples, seed),
            "traces": float(np.mean(traces)),
        }
        for name, (right, tokens, traces) in methods.items()
    }


def _reduction(used: np.ndarray, consensus: np.ndarray, resamples: int, seed: int) -> dict[str, float]:
    """Share of cons@n's tokens that is saved: a ratio of sums over problems, with its interval."""
    value, low, high = metrics.bootstrap(
        range(len(used)), lambda r: costs.reduction(float(used[r].sum()), float(consensus[r].sum())), resamples, seed
    )
    return {"value": value, "low": low, "high": high}


def pruning_numbers(
    problems: dict[str, Problem],
    traces: Sequence[Trace],
    prunings: dict[str, Sequence[Pruning]],
    judge_parameters: dict[str, float | None],
    reasoner_parameters: float | None,
    resamples: int,
    seed: int,
) -> dict:
    """Accuracy and tokens a problem of each run's pruning, and of pass@1 and cons@n on the traces that it pruned.

    Returns "deepprune": run -> numbers, with the name of what it is set against; "baselines": that name -> numbers.
    Where all runs pruned the same traces, the baseline's numbers also stand at the top.

    An unknown answer counts as wrong. Token reductions are ratios of sums over problems, with intervals over
    problems; those with the judge add its computed prompt tokens weighted by the parameter ratio, None where the
    judge's size or the reasoner's is not known. reasoner_parameters: None: from its name. Raises UserError for several
    live runs at once, and for traces that are missing.
    """
    if len(prunings) > 1 and any(map(is_live, prunings.values())):
        raise UserError("every live run has traces of its own: report them one at a time")
    found: dict[Hashable, tuple] = {}
    keys: dict[str, Hashable] = {}
    for name, run in prunings.items():
        own = own_traces(name, run, traces)
        own = {i: own[i] for i in sorted(own)}
        keys[name] = tuple((i, *(t.trace_id for t in group)) for i, group in own.items())
        if keys[name] not in found:
            found[keys[name]] = _baseline(problems, run, own, resamples, seed)
    titles = dict(zip(found, _titles([baseline for baseline, _, _ in found.values()]), strict=True))
    result: dict = {"deepprune": {}, "baselines": {titles[key]: found[key][0] for key in found}}
    for name, run in prunings.items():
        baseline, voted, consensus = found[keys[name]]
        by_id = {p.problem_id: p for p in run}
        rows = [by_id[i] for i in sorted(by_id)]
        models = baseline["reasoner"]
        size = reasoner_parameters or (costs.parameters_from_name(models[0]) if len(models) == 1 else None)
        judge = judge_parameters.get(name)
        spent = np.asarray([p.tokens["total"] for p in rows], dtype=np.float64)
        right = np.asarray([float(p.correct is True) for p in rows])
        extra = [costs.equivalent_tokens(p.judge_tokens, p.judge_cached_tokens, judge, size) for p in rows]
        equivalent = None if None in extra else spent + np.asarray(extra)

        def reduction(used: np.ndarray | None, consensus=consensus) -> dict[str, float] | None:
            return None if used is None or consensus is None else _reduction(used, consensus, resamples, seed)

        kinds = ("prefix", "rest", "total", "consensus")
        result["deepprune"][name] = {
            "against": titles[keys[name]],
            "judge": rows[0].judge,
            "rule": rule_title(rows[0].settings),
            "problems": len(rows),
            "accuracy": _mean(right, resamples, seed),
            "accuracy_minus_cons@n": None if voted is None else _mean(right - voted, resamples, seed),
            "tokens": _mean(spent, resamples, seed),
            "tokens_with_judge": None if equivalent is None else _mean(equivalent, resamples, seed),
            "reduction": reduction(spent),
            "reduction_with_judge": reduction(equivalent),
            "sums": {kind: sum(p.tokens[kind] for p in rows) for kind in kinds},
            "clusters": float(np.mean([len(p.clusters) for p in rows])),
            "finished": float(np.mean([len(p.finished) for p in rows])),
            "judge_calls": sum(p.judge_calls for p in rows),
            "judge_tokens": sum(p.judge_tokens for p in rows),
            "judge_cached_tokens": sum(p.judge_cached_tokens for p in rows),
            "judge_parameters": judge,
            "reasoner_parameters": size,
        }
        result["deepprune"][name]["sums"]["consensus"] = None if consensus is None else int(consensus.sum())
    if len(found) == 1:
        result = {**next(iter(result["baselines"].values())), "reasoner_parameters": size, **result}
    return result


def _titles(baselines: Sequence[dict]) -> list[str]:
    """cons@n of each, with what else tells it apart from the others of as many traces."""
    titles = [f"cons@{_size(b['n'] if isinstance(b['n'], list) else [b['n']])}" for b in baselines]
    for tell in (
        lambda b: ", ".join(b["reasoner"]),
        lambda b: f"{b['problems']} problems",
        lambda b: f"{b['order']} order",
    ):
        groups = {t: {tell(b) for u, b in zip(titles, baselines, strict=True) if u == t} for t in titles}
        titles = [f"{t}, {tell(b)}" if len(groups[t]) > 1 else t for t, b in zip(titles, baselines, strict=True)]
    return [f"{t} ({titles[:at].count(t) + 1})" if titles.count(t) > 1 else t for at, t in enumerate(titles)]


def names(runs: Sequence[Sequence[Pruning]]) -> list[str]:
    """A name for each pruning run: its judge, which comparisons it was asked for if not all, and what else tells it apart
    from other runs of the same judge: settings, or how many problems it pruned.
    """
    settings = [_settings(run) for run in runs]
    result: list[list[str]] = []
    for run, own in zip(runs, settings, strict=True):
        others = [s for other, s in zip(runs, settings, strict=True) if other[0].judge == run[0].judge]
        parts = [run[0].judge]
        if own.get("asks", "all") != "all":
            parts.append(own["asks"])
        parts += [
            f"{key} {value}"
            for key, value in own.items()
            if key != "asks" and any(key in s and s[key] != value for s in others)
        ]
        result.append(parts)
    # Records of before a setting was written down lack it: then what they lack tells the others from them.
    plain = [", ".join(parts) for parts in result]
    for at, (run, own) in enumerate(zip(runs, settings, strict=True)):
        alike = [i for i, name in enumerate(plain) if name == plain[at]]
        if len({len(runs[i]) for i in alike}) > 1:
            result[at].append(f"{len(run)} problems")
        result[at] += [f"{key} {own[key]}" for key in own if any(key not in settings[i] for i in alike)]
    return [", ".join(parts) for parts in result]


def rule_title(settings: dict) -> str:
    """How a run pruned, for people: the paper's rule, or what is asked, where a trace goes, and what is finished."""
    asked, assign = settings.get("asks", "all"), settings.get("assign", "best")
    finish = settings.get("finish_rule", "paper")
    if (asked, assign, finish) == ("all", "best", "paper"):
        return f"the paper's rule, K1 = {settings['k1']}" if "k1" in settings else "the paper's rule"
    parts = ["all members compared" if asked == "all" else f"{asked} comparisons"]
    parts += [f"{assign} cluster first"] * (assign != "best")
    return ", ".join([*parts, "the paper's finish" if finish == "paper" else f"{finish} finish"])


def _settings(run: Sequence[Pruning]) -> dict:
    """A run's settings; n of all its problems."""
    n = [p.settings["n"] for p in run if "n" in p.settings]
    return run[0].settings | ({"n": _size(n)} if n else {})


def _interval(
    row: dict | None, digits: int = 3, percent: bool = False, missing: str = "not known", why: str = ""
) -> str:
    """value [low, high]. missing: where there is no row; why: a value cannot be told."""
    if row is None:
        return missing
    if math.isnan(row["value"]):
        return f"n/a{why}"
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
        note = "" if row.get("complete", True) else ", not complete"
        lines.append(f"| {row['file']} | `{row['sha256'][:12]}` | `{row['commit']}`{note} |")
    return "\n".join(lines) + "\n"


def summary(numbers: dict, trained: dict | None = None) -> list[str]:
    """The run in at most nine lines. trained: the manifest of the judge's training; the first judge is the one in question."""
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
    pruning = numbers.get("pruning")
    if pruning:
        lines += _pruning_summary(pruning)
    width = max((len(name) for name, _ in lines), default=0) + 2
    return [f"{name:<{width}}{text}" for name, text in lines[:9]]


def _pruning_summary(p: dict) -> list[tuple[str, str]]:
    """What was pruned, what that saved, what saves as much without a judge, and the limits."""
    runs = p["deepprune"]
    first = next(iter(runs.values()))
    base = p["baselines"][first["against"]]
    n = base["n"][-1] if isinstance(base["n"], list) else base["n"]
    known = first["judge_parameters"] and first["reasoner_parameters"]
    size = (
        f"; the judge has {first['judge_parameters'] / first['reasoner_parameters']:.2f} of its parameters"
        if known
        else ""
    )
    lines = [("pruned", f"{base['problems']} problems x {n} traces of {', '.join(base['reasoner'])}{size}")]
    if base["cons@n"]["accuracy"]:
        tokens = base["cons@n"]["tokens"]["value"]
        lines.append(
            (first["against"], f"accuracy {_interval(base['cons@n']['accuracy'])}, {tokens:,.0f} tokens a problem")
        )

    def saved(row: dict) -> str:
        text = f"accuracy {_interval(row['accuracy'])}"
        if row["reduction"]:
            text += f", {row['reduction']['value']:.1%} of the tokens saved"
        if row.get("judge_tokens"):
            counted = row["reduction_with_judge"]
            text += (
                f", {counted['value']:.1%} with the judge counted" if counted else f", with the judge counted {UNKNOWN}"
            )
        return text

    own = [row for row in runs.values() if row["judge"] == first["judge"]]
    lines += [("pruning", f"{row['rule']}: {saved(row)}") for row in own[:3]]
    others = base["others"]
    if others:
        spent = min((row["tokens_with_judge"] or row["tokens"])["value"] for row in own)
        cons = [name for name, row in others.items() if name.startswith("cons@") and row["tokens"]["value"] <= spent]
        shown = [name for name in (ADAPTIVE, *cons[-1:]) if name in others]
        lines.append(("no judge", "; ".join(f"{name} {saved(others[name])}" for name in shown)))
    limits = [f"{row['judge']}: {saved(row)}" for row in runs.values() if row["judge"] != first["judge"]]
    return lines + ([("limits", "; ".join(limits))] if limits else [])


def _judge_lines(numbers: dict) -> list[str]:
    lines = ["## The judge: do two partial traces end in the same answer?", ""]
    for subset in next(iter(numbers["judges"].values())):
        head = next(iter(numbers["judges"].values()))[subset]
        title = "All test pairs" if subset == "all" else f"Traces by {subset}"
        lines += [
            f"**{title}**: {head['pairs']} pairs of {head['problems']} problems, {head['same_share']:.1%} same answer.",
            "",
            "| judge | AUROC | AUROC within problems | TNR@0.2 | accuracy | prompt tokens |",
            "|---|---|---|---|---|---|",
        ]
        for judge, row in numbers["judges"].items():
            m = row[subset]["metrics"]
            ranked = [_interval(m[k], why=" (one class)") for k in ("auroc", "within_problem_auroc", "tnr_at_0.2_fnr")]
            cells = [*ranked, _interval(m["accuracy"])]
            lines.append(f"| {judge} | {' | '.join(cells)} | {row[subset]['prompt_tokens']:,} |")
        lines.append("")
    lines += [
        "The paper, for comparison (other reasoners, other problems, a 4B judge):",
        "",
        "| judge | AUROC | TNR@0.2 |",
        "|---|---|---|",
    ]
    for judge, row in paper.JUDGES.items():
        lines.append(f"| {judge} | {row['auroc']} | {row.get('tnr_at_0.2_fnr', '')} |")
    return [*lines, "", "![ROC](roc.png)", ""]


UNKNOWN = "unknown"


def _pruning_lines(p: dict) -> list[str]:
    """The runs, each set against pass@1 and cons@n of the traces that it pruned."""
    baselines, several = p["baselines"], len(p["baselines"]) > 1
    lines = ["## Pruning: greedy clustering, a few finished traces, a vote", ""]
    if several:
        lines += ["The runs did not prune the same traces: each is set against its own.", ""]
    for title, b in baselines.items():
        among = "finished traces" if b["live"] or b["stopped"] else "n traces"
        n = f"{b['n'][0]} to {b['n'][-1]}" if isinstance(b["n"], list) else b["n"]
        lines += [
            f"{title}: {b['problems']} problems, n = {n} traces each by {', '.join(b['reasoner'])}. A right answer is "
            f"among the {among} of {b['oracle_coverage']['value']:.1%} of the problems.",
            "",
        ]
        if b["live"]:
            tokens = "estimated from the lengths of the finished traces" if b["cons@n"]["tokens"] else "not known"
            lines += [
                "A live run: what was pruned was never generated. So pass@1 and the vote of cons@n are not known here, and the "
                f"tokens of cons@n are {tokens}, as is the token reduction.",
                "",
            ]
        elif b["stopped"]:
            lines += [
                "Some of these traces were stopped by live pruning: pass@1, cons@n and the token reduction are not known here.",
                "",
            ]
    lines += [
        f"| method |{' set against |' if several else ''} accuracy | difference to cons@n | reasoner tokens a problem "
        "| token reduction, judge not counted | token reduction, judge counted | clusters | finished |",
        f"|---|---|---|---|---|---|---|---|{'---|' if several else ''}",
    ]
    blank = " |" if several else ""
    for title, b in baselines.items():
        of = f" of {title.removeprefix('cons@')}" if several else ""
        if b["pass@1"]:
            lines.append(
                f"| pass@1{of} |{blank} {_interval(b['pass@1']['accuracy'])} | | {_interval(b['pass@1']['tokens'], 0)} | | | | 1 |"
            )
        lines.append(
            f"| {title if several else 'cons@n'} |{blank} {_interval(b['cons@n']['accuracy'])} | 0 "
            f"| {_interval(b['cons@n']['tokens'], 0)} | 0 | 0 | | n |"
        )
        for name, row in b["others"].items():
            saved = _interval(row["reduction"], percent=True)
            lines.append(
                f"| {name}{of} |{blank} {_interval(row['accuracy'])} | {_interval(row['accuracy_minus_cons@n'])} "
                f"| {_interval(row['tokens'], 0)} | {saved} | {saved} | | {row['traces']:.1f} |"
            )
    for judge, row in p["deepprune"].items():
        counted = _interval(row["reduction_with_judge"], percent=True, missing=UNKNOWN)
        lines.append(
            f"| DeepPrune, {judge} |{' ' + row['against'] + ' |' if several else ''} {_interval(row['accuracy'])} "
            f"| {_interval(row['accuracy_minus_cons@n'])} | {_interval(row['tokens'], 0)} "
            f"| {_interval(row['reduction'], percent=True, missing=UNKNOWN)} | {counted} | {row['clusters']:.1f} | {row['finished']:.1f} |"
        )
    if any(b["others"] for b in baselines.values()):
        lines += ["", f"cons@m below n: any m of the traces; {ADAPTIVE}: means over {ORDERS} orders of the traces."]
    lines += [
        *_unknown_sizes(p),
        "",
        "Whole cost over all problems of a run (cached: what a perfect prefix cache saves; of a "
        "live run what its engine counted):",
        "",
        "| judge | problems | prefix tokens | rest of finished | total | cons@n | judge calls | judge prompt tokens | cached "
        "| judge parameters / reasoner's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for judge, row in p["deepprune"].items():
        known = row["judge_parameters"] is not None and row["reasoner_parameters"]
        ratio = f"{row['judge_parameters'] / row['reasoner_parameters']:.2f}" if known else UNKNOWN
        s = row["sums"]
        consensus = UNKNOWN if s["consensus"] is None else f"{s['consensus']:,}"
        lines.append(
            f"| {judge} | {row['problems']} | {s['prefix']:,} | {s['rest']:,} | {s['total']:,} | {consensus} | {row['judge_calls']:,} "
            f"| {row['judge_tokens']:,} | {row['judge_cached_tokens']:,} | {ratio} |"
        )
    return [*lines, "", "![tokens against accuracy](tokens_accuracy.png)", ""]


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
    lines = []
    if judges:
        lines.append(
            f"The size of the judge of {'; '.join(judges)} is not known (no manifest of the run says it), so what it costs is unknown, "
            "not nothing; the figure leaves it out."
        )
    if reasoners:
        lines.append(
            f"The size of the reasoner ({'; '.join(reasoners)}) is not known (--reasoner-parameters tells it), so what a judge costs "
            "beside it is unknown; the figure leaves it out."
        )
    return [x for line in lines for x in ("", line)]

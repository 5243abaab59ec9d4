"""Pruning runs in a report: the traces that each pruned, and names that tell them apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from deepprune.base.errors import UserError
from deepprune.base.records import Pruning, Trace
from deepprune.prune import prefixes
from deepprune.prune.live_traces import NO_JUDGE

PAPER_RULE = "the paper's rule"


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


def _settings(run: Sequence[Pruning]) -> dict:
    """A run's settings; n of all its problems."""
    n = [p.settings["n"] for p in run if "n" in p.settings]
    return run[0].settings | ({"n": _size(n)} if n else {})


def names(runs: Sequence[Sequence[Pruning]]) -> list[str]:
    """A name for each pruning run: its judge, its rule if that is not the paper's or other runs of the judge have
    another, and what else tells it apart from these: settings, or how many problems it pruned.
    """
    settings = [_settings(run) for run in runs]
    result: list[list[str]] = []
    for run, own in zip(runs, settings, strict=True):
        same_judge = [s for other, s in zip(runs, settings, strict=True) if other[0].judge == run[0].judge]
        parts = [own.get("method", NO_JUDGE) if run[0].judge == NO_JUDGE else run[0].judge]
        if own.get("method", "deepprune") == "deepprune" and {_rule(s) for s in same_judge} != {PAPER_RULE}:
            parts.append(_rule(own))
        parts += [
            f"{key} {value}"
            for key, value in own.items()
            if key not in ("asks", "assign", "finish_rule")
            and any(
                key in s and s[key] != value
                for s in same_judge
                if key != "finish_start" or s.get("finish_rule") == own.get("finish_rule")
            )
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


def title(name: str, judge: str) -> str:
    """A run in a table or figure; name: of `names`."""
    return f"live, {name}" if judge == NO_JUDGE else f"DeepPrune, {name}"


def rule_title(settings: dict) -> str:
    """How a run pruned, for people: the paper's rule, or what is asked, where a trace goes, and what is finished.

    Of a live run by another method than pruning its name.
    """
    if settings.get("method", "deepprune") != "deepprune":
        return settings["method"]
    asked, assign = settings.get("asks", "all"), settings.get("assign", "best")
    finish = settings.get("finish_rule", "paper")
    if (asked, assign, finish) == ("all", "best", "paper"):
        return f"{PAPER_RULE}, K1 = {settings['k1']}" if "k1" in settings else PAPER_RULE
    parts = ["all members compared" if asked == "all" else f"{asked} comparisons"]
    parts += [f"{assign} cluster first"] * (assign != "best")
    return ", ".join([*parts, "the paper's finish" if finish == "paper" else f"{finish} finish"])


def _rule(settings: dict) -> str:
    """rule_title without K1, which a name has where runs differ in it."""
    return rule_title({key: value for key, value in settings.items() if key != "k1"})


def baseline_titles(baselines: Sequence[dict]) -> list[str]:
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

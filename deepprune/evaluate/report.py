"""The numbers of a run, from its records alone (deepprune/evaluate/report_page.py shows them)."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from deepprune.base import metrics
from deepprune.base.errors import UserError
from deepprune.base.records import Pair, PairScore, Problem, Pruning, Trace
from deepprune.data import answers
from deepprune.evaluate import methods, report_runs
from deepprune.prune import costs

ORDERS = 20  # of the traces, over which the votes without a judge are averaged
ADAPTIVE = "Adaptive-Consistency"

Number = dict[str, float]  # value, and its 95 % interval over problems: low, high


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
        for name, subset in subsets.items():
            rows = [by_id[p.pair_id] for p in subset]
            labels, problems = [p.label for p in subset], [p.problem_id for p in subset]
            result[judge][name] = {
                "pairs": len(subset),
                "problems": len(set(problems)),
                "same_share": float(np.mean(labels)),
                "metrics": metrics.judge_table(labels, [r.p_same for r in rows], problems, resamples, seed),
                "prompt_tokens": sum(r.prompt_tokens for r in rows),
            }
    return result


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """Intervals over problems."""

    resamples: int
    seed: int

    def mean(self, values: Sequence[float]) -> Number:
        """Mean over problems."""
        data = np.asarray(values, dtype=np.float64)
        return self._number(len(data), lambda rows: float(data[rows].mean()))

    def reduction(self, used: Sequence[float], consensus: np.ndarray) -> Number:
        """Share of cons@n's tokens that is saved: a ratio of sums over problems."""
        used = np.asarray(used)
        return self._number(
            len(used), lambda rows: costs.reduction(float(used[rows].sum()), float(consensus[rows].sum()))
        )

    def _number(self, count: int, statistic) -> Number:
        value, low, high = metrics.bootstrap(range(count), statistic, self.resamples, self.seed)
        return {"value": value, "low": low, "high": high}


@dataclasses.dataclass(frozen=True)
class Baseline:
    """What a run is set against. By problem: is the vote of cons@n right, and its tokens (None: not known)."""

    numbers: dict
    voted: np.ndarray | None
    consensus: np.ndarray | None


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
    if len(prunings) > 1 and any(map(report_runs.is_live, prunings.values())):
        raise UserError("every live run has traces of its own: report them one at a time")
    bootstrap = Bootstrap(resamples, seed)
    baselines: dict[Hashable, Baseline] = {}
    keys: dict[str, Hashable] = {}
    for name, run in prunings.items():
        own = report_runs.own_traces(name, run, traces)
        own = {i: own[i] for i in sorted(own)}
        keys[name] = tuple((i, *(t.trace_id for t in group)) for i, group in own.items())
        if keys[name] not in baselines:
            baselines[keys[name]] = _baseline(problems, run, own, bootstrap)
    against = dict(zip(baselines, report_runs.baseline_titles([b.numbers for b in baselines.values()]), strict=True))
    result: dict = {"deepprune": {}, "baselines": {against[key]: b.numbers for key, b in baselines.items()}}
    for name, run in prunings.items():
        baseline = baselines[keys[name]]
        models = baseline.numbers["reasoner"]
        size = reasoner_parameters or (costs.parameters_from_name(models[0]) if len(models) == 1 else None)
        numbers = _run_numbers(run, baseline, judge_parameters.get(name), size, bootstrap)
        result["deepprune"][name] = {"against": against[keys[name]]} | numbers
    if len(baselines) == 1:
        result = {**next(iter(result["baselines"].values())), "reasoner_parameters": size, **result}
    return result


def _run_numbers(
    run: Sequence[Pruning], baseline: Baseline, judge: float | None, reasoner: float | None, bootstrap: Bootstrap
) -> dict:
    """One run's numbers. judge, reasoner: their parameters (None: not known)."""
    rows, consensus = sorted(run, key=lambda p: p.problem_id), baseline.consensus
    spent = np.asarray([p.tokens["total"] for p in rows], dtype=np.float64)
    right = np.asarray([float(p.correct is True) for p in rows])
    extra = [costs.equivalent_tokens(p.judge_tokens, p.judge_cached_tokens, judge, reasoner) for p in rows]
    with_judge = None if None in extra else spent + np.asarray(extra)

    def reduction(used: np.ndarray | None) -> Number | None:
        return None if used is None or consensus is None else bootstrap.reduction(used, consensus)

    return {
        "judge": rows[0].judge,
        "rule": report_runs.rule_title(rows[0].settings),
        "problems": len(rows),
        "accuracy": bootstrap.mean(right),
        "accuracy_minus_cons@n": None if baseline.voted is None else bootstrap.mean(right - baseline.voted),
        "tokens": bootstrap.mean(spent),
        "tokens_with_judge": None if with_judge is None else bootstrap.mean(with_judge),
        "reduction": reduction(spent),
        "reduction_with_judge": reduction(with_judge),
        "sums": {kind: sum(p.tokens[kind] for p in rows) for kind in ("prefix", "rest", "total")}
        | {"consensus": None if consensus is None else int(consensus.sum())},
        "clusters": float(np.mean([len(p.clusters) for p in rows])),
        "finished": float(np.mean([len(p.finished) for p in rows])),
        "judge_calls": sum(p.judge_calls for p in rows),
        "judge_tokens": sum(p.judge_tokens for p in rows),
        "judge_cached_tokens": sum(p.judge_cached_tokens for p in rows),
        "judge_parameters": judge,
        "reasoner_parameters": reasoner,
    }


def _baseline(
    problems: dict[str, Problem], run: Sequence[Pruning], own: dict[str, list[Trace]], bootstrap: Bootstrap
) -> Baseline:
    """pass@1, cons@n and the votes without a judge on a run's own traces.

    What is not known is None: of a live run (and of traces that one stopped) all that rests on traces which were not
    generated to the end. A live run's tokens of cons@n are its own estimate.
    """
    live = report_runs.is_live(run)
    stopped = any(t.pruned for group in own.values() for t in group)
    consensus = voted = single = None
    if live:
        estimates = {p.problem_id: p.tokens["consensus"] for p in run}
        if all(estimates.values()):  # 0: not a single trace ended, from which it could be told
            consensus = np.asarray([estimates[i] for i in own], dtype=np.float64)
    elif not stopped:
        consensus = np.asarray([sum(t.n_tokens for t in group) for group in own.values()], dtype=np.float64)
        voted = np.asarray([_vote_is_right(problems[i], group) for i, group in own.items()], dtype=np.float64)
        single = {
            "accuracy": bootstrap.mean([np.mean([t.correct is True for t in group]) for group in own.values()]),
            "tokens": bootstrap.mean([np.mean([t.n_tokens for t in group]) for group in own.values()]),
        }
    n = sorted({p.settings.get("n") or len(own[p.problem_id]) for p in run})
    numbers = {
        "problems": len(own),
        "n": n[0] if len(n) == 1 else n,
        "order": run[0].settings.get("order", "recorded"),
        "reasoner": sorted({t.model for group in own.values() for t in group}),
        "live": live,
        "stopped": stopped,
        "pass@1": single,
        "cons@n": {
            "accuracy": None if voted is None else bootstrap.mean(voted),
            "tokens": None if consensus is None else bootstrap.mean(consensus),
        },
        "others": {} if voted is None else _others(problems, own, voted, consensus, bootstrap),
        "oracle_coverage": bootstrap.mean([float(any(t.correct is True for t in group)) for group in own.values()]),
    }
    return Baseline(numbers, voted, consensus)


def _vote_is_right(problem: Problem, traces: Sequence[Trace]) -> bool:
    voted = answers.majority([t.answer for t in traces], problem.answer_type)
    return answers.same(voted, problem.gold, problem.answer_type) is True


def _others(
    problems: dict[str, Problem],
    own: dict[str, list[Trace]],
    voted: np.ndarray,
    consensus: np.ndarray,
    bootstrap: Bootstrap,
) -> dict[str, dict]:
    """What needs no judge, by name: cons@m for powers of two below n (any m of the traces), and every baseline.

    voted, consensus: of cons@n, by problem. Each: accuracy, its difference to cons@n, tokens a problem, their
    reduction, traces.
    """
    fewest = min(map(len, own.values()))
    part = max(2, fewest // 4)  # a window or a warm-up of all traces would save nothing
    grid = methods.Grid(orders=ORDERS, seed=bootstrap.seed, window=min(8, part), warmup=min(16, part))
    rows = [methods.compare(methods.trace_set(problems[i], own[i]), grid, lambda number: {}) for i in own]
    lengths = np.asarray([row["length"] for row in rows])
    played = {
        f"cons@{m}": ([row["cons"][m - 1] for row in rows], m * lengths, np.full(len(rows), m))
        for m in (2**i for i in range(1, 30))
        if m < fewest
    }
    names = {m["method"]: None for row in rows for m in row["methods"]}
    for name in names:
        by_problem = [{m["method"]: m for m in row["methods"]}.get(name) for row in rows]
        if None not in by_problem:  # DeepConf: token confidence is not recorded of every problem
            figures = tuple([row[field] for row in by_problem] for field in ("accuracy", "tokens", "opened"))
            played[_title(name, grid)] = figures
    return {
        name: {
            "accuracy": bootstrap.mean(right),
            "accuracy_minus_cons@n": bootstrap.mean(np.asarray(right) - voted),
            "tokens": bootstrap.mean(tokens),
            "reduction": bootstrap.reduction(tokens, consensus),
            "traces": float(np.mean(opened)),
        }
        for name, (right, tokens, opened) in played.items()
    }


def _title(method: str, grid: methods.Grid) -> str:
    """A baseline's name in a report."""
    if method == "esc":
        return f"ESC, windows of {grid.window}"
    if method.startswith("deepconf"):
        return f"{method.replace('deepconf', 'DeepConf')}, {grid.warmup} warm-up traces"
    return method.replace("adaptive-consistency", ADAPTIVE)

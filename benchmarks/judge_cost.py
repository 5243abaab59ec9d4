"""What the judge costs: the full rule, exact savings and approximate modes, side by side in one run.

    python benchmarks/judge_cost.py --problems DeepPrune_data/problems/arithmetic.jsonl --traces DeepPrune_data/traces/qwen2.5-coder-0.5b-deep.jsonl.gz \
        --model results/demo/judge --truncation-k 2 --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct --n 16 32 64 --output results/judge_cost

1. Counted: every pair of the largest n is scored once into OUTPUT.sqlite (a killed run goes on), then each mode is replayed from
   the store for every n, K and reading of the paper (--readings): judge calls, prompt tokens without and with a perfect prefix
   cache, the clusters' agreement with the full rule (adjusted Rand index), accuracy and answer diversity under the paper's
   finish rule. 'least possible' is the fewest calls with which any exact rule could justify the same clusters. 'largest first,
   likely' is not a reading of the paper but ours: the largest cluster that is likely above tau is joined. Where an LLM judge for
   every pair of hundreds of traces is too much: --judge sbert (a sentence encoder's similarity, its own --tau) or simulated
   (scores drawn to have each --auroc; 1 is the oracle).
2. Timed (--timed questions, --timed-n traces): the modes really run, one after the other in this process: wall time, and prompt
   tokens computed and cached by vLLM's own count. One pair at a time with transformers is timed on --slow-pairs pairs and
   scaled up.

Writes OUTPUT.csv, OUTPUT.json (with the timings) and OUTPUT.png.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deepprune import judges
from deepprune.base import config, jsonl, locks, manifest, metrics, progress, records, runtime
from deepprune.base.config import like, setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.data import answers, problems
from deepprune.engines import models
from deepprune.evaluate import judge_cost_figures, methods, plotting, simulation
from deepprune.evaluate.judge_cost_figures import EXACT, FULL, LARGEST, LEAST, LIKELY
from deepprune.judges import Request, score_store, scoring
from deepprune.prune import clustering, costs, finishing, prefixes
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.rules import CutSettings

COUNTED = {  # mode: comparisons, and assign where it is not the reading's
    FULL: ("all", None),
    EXACT: ("needed", None),
    LIKELY: ("likely", None),
    LARGEST: ("likely", "largest"),
}
JUDGES = ("vllm", "sbert", "simulated")
READINGS = [f"{similarity}/{assign}" for similarity in clustering.SIMILARITIES for assign in clustering.ASSIGNMENTS]
CASE = ["judge", "reading", "n", "K"]


@dataclasses.dataclass
class CostSettings(CutSettings):
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records")
    output: str = setting(config.REQUIRED, "path without ending of the CSV, JSON and PNG")
    reasoner: str | None = setting(None, "only traces of this model")
    only: str | None = setting(None, "JSONL file of Pair records: only its problems (the judge's test side)")
    judge: str = setting(
        "vllm",
        "vllm: --model; sbert: the sentence encoder of --sbert; simulated: scores drawn to have --auroc",
        choices=JUDGES,
    )
    model: str | None = setting(None, "the judge: folder, LoRA adapter folder or hub id")
    auroc: list[float] = setting([0.87], "of simulated judges", at_least=0.5, at_most=1)
    sbert: str = setting("sentence-transformers/all-MiniLM-L6-v2", "sentence encoder of --judge sbert")
    store: str | None = setting(
        None, "SQLite store of the judge's scores (Online/compare_methods.py writes such; default: OUTPUT.sqlite)"
    )
    limit: int | None = setting(None, "only so many problems, spread evenly over the file", at_least=1)
    n: list[int] = setting([16, 32, 64], "traces a question", at_least=1)
    k: list[int] = like(ClusterSettings, "k", [8, 16, 32], "values of K")
    k1: int = like(ClusterSettings, "k1")
    tau: float = like(ClusterSettings, "tau")
    readings: list[str] = setting(
        READINGS[:1],
        "of the paper: mean of what, and which of the clusters above tau a trace joins (the largest: ours); the "
        "first is timed",
        choices=READINGS,
    )
    surety: float = like(ClusterSettings, "surety")
    tokenizer: str = setting("Qwen/Qwen3-4B-Instruct-2507", "model whose tokenizer cuts and counts")
    dtype: str = config.dtype("the judge's weights' type")
    max_model_len: int | None = setting(
        None, "the judges' context length (list-wise: up to K traces a prompt)", at_least=2
    )
    batch: int = setting(64, "pairs at once", at_least=1)
    timed: int = setting(0, "questions of the timed part (0: none)", at_least=0)
    timed_n: int = setting(64, "traces a question of the timed part", at_least=1)
    slow_pairs: int = setting(20, "pairs timed with transformers, one at a time", at_least=1)
    seed: int = config.seed("seed of sampled members and simulated scores")


def arguments() -> CostSettings:
    args = config.parse(CostSettings, None, __doc__)
    if args.judge == "vllm" and not args.model:
        raise UserError("--judge vllm needs --model")
    if args.judge != "vllm" and args.timed:
        raise UserError(f"--timed runs a judge on vLLM; with --judge {args.judge} there is none")
    outputs = [f"{args.output}{end}" for end in (".csv", ".json", ".png")]
    manifest.check_paths(outputs, [*args.problems, *args.traces])
    locks.hold(outputs[0])
    return args


def least_comparisons(scores: Sequence[Sequence[float]], settings: clustering.ClusterSettings, key: str) -> int:
    """The fewest comparisons with which *any* exact rule can justify the full rule's clusters, knowing the scores beforehand.

    A placement is justified when the answers given so far force it whatever the missing ones are, each in [0, 1]. No exact
    saving can ask less: the limit that `asks: needed` is measured against.
    """
    clusters: list[list[int]] = []
    running = clustering.greedy(len(scores), dataclasses.replace(settings, asks="all"), key, clusters)
    total, reply = 0, None
    while True:
        try:
            pairs = running.send(reply)
        except StopIteration:
            return total
        new = pairs[0][1]
        owner = {member: number for number, members in enumerate(clusters) for member in members}
        values: dict[int, list[float]] = {}
        reply = [scores[member][new] for member, _ in pairs]
        for (member, _), value in zip(pairs, clustering.similarities(reply, settings), strict=True):
            values.setdefault(owner[member], []).append(value)
        forced = len(clusters) >= settings.k and settings.overflow == "join"
        order = None if settings.assign == "best" else clustering.search_order(clusters, settings)
        total += _certificate(list(values.values()), settings.tau, forced, order)


def _certificate(values: list[list[float]], tau: float, forced: bool, order: Sequence[int] | None) -> int:
    """Fewest revealed values that settle which cluster is chosen: of those whose mean is above tau the first in this order, or
    the best (order None).
    """

    def to_stay_under(scores: list[float], level: float, strictly: bool) -> float:
        """Answers to reveal, the lowest first, until the mean cannot come above (strictly: up to) the level; inf: it does."""
        bound = float(len(scores))
        for revealed, value in enumerate([*sorted(scores), 0.0]):
            if bound < level * len(scores) - 1e-12 or (not strictly and bound <= level * len(scores) + 1e-12):
                return revealed
            bound -= 1.0 - value
        return math.inf

    means = [sum(scores) / len(scores) for scores in values]
    best = max(range(len(means)), key=means.__getitem__)
    if means[best] <= tau and not forced:
        return int(sum(to_stay_under(scores, tau, False) for scores in values))
    if means[best] > tau and order is not None:
        first = next(i for i in order if means[i] > tau)
        before = [values[i] for i in order[: order.index(first)]]
        low = [0.0, *np.cumsum(sorted(values[first], reverse=True)) / len(values[first])]
        least = math.inf
        for revealed, bound in enumerate(low):
            if bound > tau:  # the others after it do not matter
                return int(min(least, revealed + sum(to_stay_under(scores, tau, False) for scores in before)))
            if forced:  # not known to be above tau, but none else is, and it is the best
                others = sum(to_stay_under(scores, bound, i < first) for i, scores in enumerate(values) if i != first)
                least = min(least, revealed + others)
    least, low, size = math.inf, 0.0, len(values[best])
    for revealed, value in enumerate([0.0, *sorted(values[best], reverse=True)]):
        low += value / size
        known = revealed == size
        if not forced and low <= tau and not (known and means[best] > tau):
            continue
        level = means[best] if known else low
        others = sum(to_stay_under(scores, level, i < best) for i, scores in enumerate(values) if i != best)
        least = min(least, revealed + others)
    return int(least)


class Data:
    """The questions' traces, answer classes and prefixes in the judge's tokens."""

    def __init__(self, args: CostSettings):
        from transformers import AutoTokenizer

        self.args, self.cut = args, args.cut()
        self.by_id = records.read_problems(*args.problems)
        only = {p.problem_id for p in records.read(records.Pair, args.only)} if args.only else None
        cutter = AutoTokenizer.from_pretrained(models.resolve(args.tokenizer).path)
        groups = prefixes.select(args.traces, self.cut, cutter, self.by_id, args.reasoner, only)
        self.groups = {i: groups[i] for i in problems.spread(list(groups), args.limit)}
        fewest = min(map(len, self.groups.values()))
        if max(args.n) > fewest:
            raise UserError(f"--n {max(args.n)}: a problem has {fewest} traces only")
        self.labels = {
            i: answers.classes([t.answer for t in g], self.by_id[i].answer_type) for i, g in self.groups.items()
        }
        # Without a judge of its own, prompts are counted in the tokens of the model that cuts.
        own = AutoTokenizer.from_pretrained(judges.folder_of(args.model)) if args.judge == "vllm" else cutter
        self.frame, self.tokens = {}, {}
        for i, g in self.groups.items():
            self.frame[i], self.tokens[i] = costs.prompt_parts(own, self.by_id[i].question, [t.prefix for t in g])

    def request(self, problem: str, a: int, b: int) -> Request:
        first, second = self.groups[problem][a], self.groups[problem][b]
        return Request(self.by_id[problem].question, first.prefix, second.prefix, first.trace_id, second.trace_id)

    def rule(self, comparisons: str, k: int, reading: str, assign: str | None = None) -> ClusterSettings:
        a, (similarity, usual) = self.args, reading.split("/")
        return ClusterSettings(
            a.tau,
            k,
            a.k1,
            similarity=similarity,
            assign=assign or usual,
            asks=comparisons,
            surety=a.surety,
            seed=a.seed,
        )


Table = dict[str, list[list[float]]]  # p_same[member][new] of each question's first traces


def tables(data: Data) -> dict[str, Table]:
    """Of each judge, by its name."""
    args, n = data.args, max(data.args.n)
    if args.judge == "simulated":
        return {
            f"simulated, AUROC {auroc:g}": {
                i: simulation.simulated_scores(data.labels[i][:n], auroc, args.seed, i).tolist() for i in data.groups
            }
            for auroc in args.auroc
        }
    if args.judge == "sbert":
        from deepprune.judges.sbert import p_same_of

        return {
            judges.name_of("sbert", args.sbert): {
                i: p_same_of(np.asarray(rows)[:n, :n]).tolist() for i, rows in cosines(data).items()
            }
        }
    described = judges.describe("vllm", args.model)
    return {described["name"]: judged(data, described)}


def judged(data: Data, described: dict) -> Table:
    """Every pair of the first max(n) traces, scored once by the judge (judges.describe) on vLLM and stored."""
    args, n = data.args, max(data.args.n)
    identity = score_store.identity(described, "vllm", args.dtype, data.cut, args.tokenizer)
    requests = [data.request(i, a, b) for i in data.groups for a, b in itertools.combinations(range(n), 2)]

    def open_judge() -> judges.Judge:
        return judges.open_judge(
            "vllm", args.model, dtype=args.dtype, max_model_len=args.max_model_len, batch=args.batch
        )

    with score_store.ScoreStore(args.store or f"{args.output}.sqlite", identity) as store:
        store.check_prefixes({t.trace_id: t.prefix for g in data.groups.values() for t in g})
        scoring.fill(store, requests, open_judge, args.batch, described["name"])
        return {i: store.tables([t.trace_id for t in group[:n]])[0].tolist() for i, group in data.groups.items()}


def cosines(data: Data) -> dict[str, list[list[float]]]:
    """How alike two traces of a question look to the sentence encoder."""
    encoder = judges.open_judge("sbert", data.args.sbert, batch=data.args.batch)
    result = {}
    for i, group in data.groups.items():
        vectors, _ = encoder.encode([t.prefix for t in group])
        result[i] = (vectors @ vectors.T).tolist()
    return result


def outcome(data: Data, problem: str, placed: list[int], full: list[int]) -> dict:
    """How near a question's clusters (of its first len(placed) traces) are to the full rule's and to the answers, and what the
    paper's finish rule makes of them: accuracy, and the share of distinct answers that are finished.
    """
    from sklearn.metrics import adjusted_rand_score

    n, group, labels = len(placed), data.groups[problem], data.labels[problem]
    played = finishing.play(
        placed,
        labels[:n],
        [t.n_tokens for t in group[:n]],
        [t.prefix_tokens for t in group[:n]],
        FinishSettings(seed=data.args.seed),
        problem,
    )
    right = answers.right_class(labels, [t.correct for t in group])
    # An unknown answer is like nothing.
    alone = [-1 - i if label is None else label for i, label in enumerate(labels[:n])]
    return {
        "clusters": len(set(placed) - {-1}),
        "adjusted Rand index": adjusted_rand_score(full, placed),
        "same clusters": full == placed,
        "adjusted Rand index to the answers": adjusted_rand_score(alone, placed),
        "accuracy": played.answer is not None and played.answer == right,
        "diversity": methods.survivors(labels[:n], right, played.finished)[1],
    }


def counted(data: Data) -> pd.DataFrame:
    """Part 1, a row a judge, reading, n, K and mode: means over questions."""
    args, rows = data.args, []
    cases = list(itertools.product(tables(data).items(), args.readings, args.n, args.k))
    for (judge, scores), reading, n, k in progress.bar(cases, desc="counting", unit="case"):
        case = dict(zip(CASE, (judge, reading, n, k), strict=True))
        cut = {i: [row[:n] for row in scores[i][:n]] for i in data.groups}
        full = {}
        for mode, (comparisons, assign) in COUNTED.items():
            if assign and reading.endswith(assign):
                continue  # that reading's own 'likely'
            outcomes = []
            for i, table in cut.items():
                done = simulation.cluster(table, data.rule(comparisons, k, reading, assign), i)
                full.setdefault(i, done.placed)
                prompt, cached = costs.judge_tokens(done.asked, data.tokens[i][:n], n, data.frame[i])
                asked = {
                    "calls": sum(map(len, done.asked)),
                    "prompt tokens": prompt,
                    "computed tokens": prompt - cached,
                }
                outcomes.append(asked | outcome(data, i, done.placed, full[i]))
            rows.append({"mode": mode} | case | summary(outcomes))
        least = [{"calls": least_comparisons(table, data.rule("all", k, reading), i)} for i, table in cut.items()]
        rows.append({"mode": LEAST} | case | summary(least))
    result = pd.DataFrame(rows)
    for column, of, name in (
        ("calls", "calls", "calls / full rule"),
        ("computed tokens", "prompt tokens", "computed tokens / full rule without a cache"),
    ):
        base = result[result["mode"] == FULL].set_index(CASE)[of]
        result[name] = (
            result[column].to_numpy() / base.loc[list(result[CASE].itertuples(index=False, name=None))].to_numpy()
        )
    return result


def summary(outcomes: list[dict]) -> dict:
    """Means over questions; of the accuracy and the Rand index also an interval."""
    row = {"questions": len(outcomes)}
    for name in outcomes[0]:
        values = np.asarray([f[name] for f in outcomes], dtype=np.float64)
        row[name] = float(values.mean())
        if name in ("accuracy", "adjusted Rand index"):
            _, row[f"{name} low"], row[f"{name} high"] = metrics.bootstrap(
                range(len(values)), lambda r, v=values: float(v[r].mean())
            )
    return row


def timed(data: Data, save: Callable[[list[dict]], None]) -> list[dict]:
    """Part 2. save: told the rows so far after each mode, so that a failure costs only what was not timed."""
    args = data.args
    ids, n, k = list(data.groups)[: args.timed], args.timed_n, max(args.k)
    rows, full = [], {}

    def run(mode: str, judge: judges.Judge, comparisons: str, assign: str | None = None, together: bool = True) -> None:
        spent, calls = [0, 0, 0], 0
        reset = getattr(getattr(judge, "llm", None), "reset_prefix_cache", None)
        if reset:
            reset()

        def score(batch):
            nonlocal calls
            scores = judge.score([data.request(*wanted) for wanted in batch])
            spent[0] += sum(s.prompt_tokens for s in scores)
            spent[1] += sum(s.cached_tokens for s in scores)
            spent[2] += 1
            calls += sum(s.calls for s in scores)
            return [s.p_same for s in scores]

        started = time.perf_counter()
        clusters = {}
        for some in [ids] if together else [[i] for i in ids]:
            rule = data.rule(comparisons, k, args.readings[0], assign)
            runs = {i: clustering.greedy(n, rule, i) for i in some}
            clusters |= clustering.lockstep(runs, score)
        seconds = time.perf_counter() - started
        placed = {i: finishing.placed_of(clusters[i], n) for i in ids}
        full.setdefault("placed", placed)
        rows.append(
            {
                "mode": mode,
                "seconds": seconds,
                "calls": calls,
                "batches": spent[2],
                "prompt tokens": spent[0],
                "cached tokens": spent[1],
                "computed tokens": spent[0] - spent[1],
            }
            | summary([outcome(data, i, placed[i], full["placed"][i]) for i in ids])
        )
        save(rows)
        print(
            f"  {mode:<44} {seconds:8.1f} s {calls:8,} calls {spent[0] - spent[1]:10,} tokens computed, {spent[1]:10,} cached"
        )

    options = {"dtype": args.dtype, "max_model_len": args.max_model_len, "batch": args.batch}
    print(f"timed: {len(ids)} questions, n = {n}, K = {k}, K1 = {args.k1}")
    for caching, modes in (
        (False, [(FULL, "all")]),
        (
            True,
            [
                (f"{FULL}, prefix cache", "all"),
                (f"{FULL}, prefix cache, one question at a time", "all", None, False),
                *((f"{mode}, prefix cache", *COUNTED[mode]) for mode in list(COUNTED)[1:]),
            ],
        ),
    ):
        judge = judges.open_judge("vllm", args.model, prefix_caching=caching, **options)
        judge.score([Request("Warm-up?", f"one {i}", f"two {i}", "a", "b") for i in range(4)])
        for mode, *how in modes:
            run(mode, judge, *how)
        judge.close()
    judge = judges.open_judge("transformers", args.model, dtype=args.dtype, batch=1)
    some = [
        data.request(ids[0], a, b)
        for a, b in itertools.islice(itertools.combinations(range(n), 2), args.slow_pairs + 2)
    ]
    judge.score(some[:2])
    started = time.perf_counter()
    judge.score(some[2:])
    each = (time.perf_counter() - started) / (len(some) - 2)
    calls = rows[0]["calls"]
    rows.insert(
        0,
        {
            "mode": f"{FULL}, transformers, one pair at a time ({len(some) - 2} pairs timed, scaled)",
            "seconds": each * calls,
            "calls": calls,
            "prompt tokens": rows[0]["prompt tokens"],
            "cached tokens": 0,
            "computed tokens": rows[0]["prompt tokens"],
        },
    )
    for row in rows:
        row["seconds / full rule on vLLM"] = row["seconds"] / rows[1]["seconds"]
    return rows


@command
def main() -> None:
    args = arguments()
    runtime.ensure()
    data = Data(args)
    numbers = counted(data)
    shown = [
        "mode",
        *CASE,
        "calls",
        "calls / full rule",
        "computed tokens / full rule without a cache",
        "adjusted Rand index",
        "same clusters",
        "accuracy",
        "diversity",
    ]
    print(numbers[shown].round(3).to_string(index=False))
    jsonl.write_text(f"{args.output}.csv", numbers.to_csv(index=False))
    about = {
        "settings": {
            k: v
            for k, v in dataclasses.asdict(args).items()
            if k not in ("problems", "traces", "model", "only", "output", "store")
        },
        "judges": list(numbers["judge"].unique()),
        "questions": list(data.groups),
        "commit": manifest.code_commit(),
        "packages": manifest.package_versions(),
        "inputs": {Path(p).name: manifest.file_hash(p) for p in [*args.problems, *args.traces]},
    }

    def save(rows: list[dict]) -> None:
        jsonl.write_json(f"{args.output}.json", about | ({"timed": rows} if args.timed else {}))

    save([])
    times = timed(data, save) if args.timed else []
    save(times)
    plotting.save(judge_cost_figures.draw(numbers, times), f"{args.output}.png")
    print(f"{args.output}.csv, {args.output}.json, {args.output}.png")


if __name__ == "__main__":
    main()

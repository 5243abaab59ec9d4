"""The timed part of judge_cost.py: the modes really run, one after the other in this process."""

import itertools
import time
from collections.abc import Callable

from judge_cost_data import COUNTED, Data, outcome, summary

from deepprune import judges
from deepprune.evaluate.judge_cost_figures import FULL
from deepprune.judges import Request
from deepprune.prune import clustering, finishing


class Timed:
    """Runs of the modes on the first questions; `rows` holds what each took, and is told to `save` after each.

    So a failure costs only what was not timed.
    """

    def __init__(self, data: Data, save: Callable[[list[dict]], None]):
        self.data, self.save = data, save
        self.questions, self.n = list(data.groups)[: data.args.timed], data.args.timed_n
        self.k = max(data.args.k)
        self.rows: list[dict] = []
        self.full: dict[str, list[int]] = {}  # the full rule's clusters, by question

    def run(self, mode: str, judge: judges.Judge, asks: str, assign: str | None = None, together: bool = True) -> None:
        """Cluster the questions, in lockstep or one at a time, with an empty prefix cache."""
        reset = getattr(getattr(judge, "llm", None), "reset_prefix_cache", None)
        if reset:
            reset()
        batches = []

        def score(asked: list[tuple[str, int, int]]) -> list[float]:
            batches.append(judge.score([self.data.request(*pair) for pair in asked]))
            return [score.p_same for score in batches[-1]]

        started, clusters = time.perf_counter(), {}
        args = self.data.args
        rule = self.data.rule(asks, self.k, args.similarities[0], assign or args.assigns[0])
        for group in [self.questions] if together else [[question] for question in self.questions]:
            clusters |= clustering.lockstep({q: clustering.greedy(self.n, rule, q) for q in group}, score)
        seconds = time.perf_counter() - started
        placed = {q: finishing.placed_of(clusters[q], self.n) for q in self.questions}
        self.full = self.full or placed
        scores = list(itertools.chain.from_iterable(batches))
        prompt, cached = sum(s.prompt_tokens for s in scores), sum(s.cached_tokens for s in scores)
        row = {
            "mode": mode,
            "seconds": seconds,
            "calls": sum(s.calls for s in scores),
            "batches": len(batches),
            "prompt tokens": prompt,
            "cached tokens": cached,
            "computed tokens": prompt - cached,
        }
        self.rows.append(row | summary([outcome(self.data, q, placed[q], self.full[q]) for q in self.questions]))
        self.save(self.rows)
        counts = f"{row['calls']:8,} calls {prompt - cached:10,} tokens computed, {cached:10,} cached"
        print(f"  {mode:<44} {seconds:8.1f} s {counts}")

    def one_pair_at_a_time(self) -> dict:
        """The full rule's row with transformers and one pair at a time: a few pairs timed, scaled to all calls."""
        args, full = self.data.args, self.rows[0]
        judge = judges.open_judge("transformers", args.model, dtype=args.dtype, batch=1)
        pairs = itertools.islice(itertools.combinations(range(self.n), 2), args.slow_pairs + 2)
        requests = [self.data.request(self.questions[0], a, b) for a, b in pairs]
        judge.score(requests[:2])  # the first ones are slower
        started = time.perf_counter()
        judge.score(requests[2:])
        each = (time.perf_counter() - started) / (len(requests) - 2)
        return {
            "mode": f"{FULL}, transformers, one pair at a time ({len(requests) - 2} pairs timed, scaled)",
            "seconds": each * full["calls"],
            "calls": full["calls"],
            "prompt tokens": full["prompt tokens"],
            "cached tokens": 0,
            "computed tokens": full["prompt tokens"],
        }


def timed(data: Data, save: Callable[[list[dict]], None]) -> list[dict]:
    """Part 2 of judge_cost.py: a row a mode."""
    args, runs = data.args, Timed(data, save)
    options = {"dtype": args.dtype, "max_model_len": args.max_model_len, "batch": args.batch}
    print(f"timed: {len(runs.questions)} questions, n = {runs.n}, K = {runs.k}, K1 = {args.k1}")
    for caching in (False, True):
        judge = judges.open_judge("vllm", args.model, prefix_caching=caching, **options)
        judge.score([Request("Warm-up?", f"one {i}", f"two {i}", "a", "b") for i in range(4)])
        if caching:
            runs.run(f"{FULL}, prefix cache", judge, "all")
            runs.run(f"{FULL}, prefix cache, one question at a time", judge, "all", together=False)
            for mode, (asks, assign) in list(COUNTED.items())[1:]:
                runs.run(f"{mode}, prefix cache", judge, asks, assign)
        else:
            runs.run(FULL, judge, "all")
        judge.close()
    rows = [runs.one_pair_at_a_time(), *runs.rows]
    for row in rows:
        row["seconds / full rule on vLLM"] = row["seconds"] / rows[1]["seconds"]
    return rows

"""Is a fleet of servers the same judge as one server and as an engine, also when one of the servers is killed?

    python benchmarks/fleet.py --judge Offline/DeepPrune-Judge-mini --problems DeepPrune_data/problems/*.jsonl \
        --traces DeepPrune_data/traces/*.jsonl.gz --n 16 --output results/fleet      # the whole recorded sample

Stage 05 on each file of recorded traces by an engine in its own process, by one `vllm serve` and by three on loopback,
of which one is killed while it works; then stage 01 from the same three addresses. All servers want a key.
What was judged before is not judged again: the same command goes on where a run was stopped.
Prints, and writes to OUTPUT/fleet.json: the largest difference of p_same, whether the clusters are the same, how many
requests each server did, and that no trace is missing or double. Needs memory for three copies of the judge.
"""

import contextlib
import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from deepprune import judges
from deepprune.base import config, jsonl, records, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.engines.servers import metric
from deepprune.engines.serving import kill, metrics, serve

ROOT = Path(__file__).resolve().parent.parent
KEY = "open sesame"
SERVED = ["--hf-overrides", '{"head_dtype": "float32"}', "--api-key", KEY, "--generation-config", "vllm"]


@dataclasses.dataclass
class FleetSettings:
    judge: str = setting(config.REQUIRED, "the judge: folder, LoRA adapter folder or hub id")
    problems: list[str] = setting(config.REQUIRED, "JSONL files of Problem records")
    traces: list[str] = setting(config.REQUIRED, "JSONL files of Trace records, each judged by itself")
    output: str = setting("results/fleet", "folder of what is written")
    limit: int | None = setting(None, "problems of each file (default: all)", at_least=1)
    n: int | None = setting(None, "traces of each problem (default: all)", at_least=2)
    servers: int = setting(3, "servers of the fleet", at_least=2)
    tokenizer: str = setting("HuggingFaceTB/SmolLM2-135M-Instruct", "model whose tokenizer cuts and counts")


@command
def main() -> None:
    settings = config.parse(FleetSettings, None, __doc__)
    runtime.ensure()
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OPENAI_API_KEY"] = KEY
    weights = judges.folder_of(settings.judge)
    prune("engine", settings)  # before the servers, which take the memory
    with contextlib.ExitStack() as stack:
        fleet = [
            stack.enter_context(serve(weights, folder / f"server{i}.log", *SERVED)) for i in range(settings.servers)
        ]
        urls = [url for url, _ in fleet]
        prune("one", settings, urls[:1])
        done = [requests_of(url) for url in urls]
        killed = kill_when(fleet[-1], done[-1] + 2)
        prune("fleet", settings, urls)
        shares = [after - before for after, before in zip(map(requests_of, urls[:-1]), done, strict=False)]
        traces = sample(settings, urls)
    result = {"killed": killed.result, "requests of the others": shares, "traces": traces, "judged": compared(settings)}
    jsonl.write_text(folder / "fleet.json", json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def run(*arguments: object) -> str:
    """A stage as a user runs it; its output. Raises UserError if it fails."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    print(done.stderr, end="", file=sys.stderr)
    if done.returncode:
        raise UserError(f"{arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def folder_of(settings: FleetSettings, traces: str) -> Path:
    """Where what is made of a file of traces lies."""
    return Path(settings.output) / Path(traces).name.partition(".jsonl")[0]


def prune(name: str, settings: FleetSettings, urls: list[str] | None = None) -> None:
    """Stage 05 with the judge on these servers, or on an engine, on each file of traces, into its folder/NAME.jsonl."""
    judge = ["--judge-url", *urls] if urls else ["--dtype", "float32", "--max-model-len", 2048]
    few = [f"--{option}={value}" for option in ("limit", "n") if (value := getattr(settings, option)) is not None]
    for traces in settings.traces:
        started = time.monotonic()
        run(
            *("Online/greedy_cluster_threshold.py", "--problems", *settings.problems, "--traces", traces),
            *("--model", settings.judge, *judge, *few, "--truncation-k", 3, "--tokenizer", settings.tokenizer),
            *("--batch", 8, "--retries", 1, "--output", folder_of(settings, traces) / f"{name}.jsonl"),
        )
        print(f"{name}, {Path(traces).name}: {time.monotonic() - started:.0f} s", flush=True)


def sample(settings: FleetSettings, urls: list[str]) -> dict[str, int]:
    """Stage 01 from these servers: how many traces were asked for, are there, and are different."""
    output = Path(settings.output) / "sampled.jsonl"
    run(
        *("scripts/01_sample_traces.py", "--problems", settings.problems[0], "--model", settings.judge),
        *("--reasoner-url", *urls, "--limit", 2, "--n", 8, "--max-tokens", 40, "--max-num-seqs", 4, "--retries", 1),
        *("--confidence-top-k", 3, "--temperature", 1.0, "--overwrite", "--output", output),
    )
    traces = list(records.read(records.Trace, output))
    return {"wanted": 16, "there": len({t.trace_id for t in traces}), "texts": len({t.text for t in traces})}


def compared(settings: FleetSettings) -> dict:
    """p_same and clusters of the runs on servers against the engine's, by file of traces."""
    return {traces.name: compared_in(traces) for traces in (folder_of(settings, name) for name in settings.traces)}


def compared_in(folder: Path) -> dict:
    """The same of one file of traces."""

    def scores(name: str) -> dict:
        with contextlib.closing(sqlite3.connect(folder / f"{name}.scores.sqlite")) as store:
            return {(a, b): p for a, b, p in store.execute("SELECT a, b, p_same FROM score")}

    def clusters(name: str) -> dict:
        return {p.problem_id: p.clusters for p in records.read(records.Pruning, folder / f"{name}.jsonl")}

    base = scores("engine")
    result: dict = {"problems": len(clusters("engine")), "pairs": len(base)}
    for name in ("one", "fleet"):
        other = scores(name)
        both = base.keys() & other.keys()
        result[name] = {
            "largest difference of p_same": max(abs(base[pair] - other[pair]) for pair in both),
            "same pairs": set(other) == set(base),
            "same clusters": clusters(name) == clusters("engine"),
        }
    return result


def requests_of(url: str) -> int:
    """Requests that a server has finished, by its own metrics."""
    return metric(metrics(url), "vllm:request_success_total") or 0


class kill_when(threading.Thread):
    """Kills a server when it has finished so many requests. result: after how many (None: it never did)."""

    def __init__(self, server: tuple[str, subprocess.Popen], finished: int):
        super().__init__(daemon=True)
        (self.url, self.process), self.finished, self.result = server, finished, None
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):  # all was judged before, and the server is stopped
            while (count := requests_of(self.url)) < self.finished:
                time.sleep(0.05)
            self.result = count
            kill(self.process)


if __name__ == "__main__":
    main()

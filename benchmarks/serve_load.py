"""Does Online/serve.py stand a load: clients that hang up, a judge and an engine that are killed and come back?

    python benchmarks/serve_load.py --minutes 10 --clients 64 --output results/serve_load
    python benchmarks/serve_load.py --minutes 10 --clients 64 --output results/serve_load --model \
        HuggingFaceTB/SmolLM2-135M-Instruct --max-tokens 48

Each client asks one question after the other, of a model drawn at random, streamed or not, and hangs up on one in
five. A third of the way the judge's server is killed, and started again some time later; so is the reasoner's at two
thirds. Servers are made up (fake_vllm.py) unless --model names one, of which two `vllm serve` run. Prints, and writes
to OUTPUT/load.json: replies by status, the longest wait, what was said while either was gone and how soon after, how
soon it was back, answered questions that are not in the log (none may be), memory over time, and requests that the
engine still had at the end. Ends with an error if a request hung, an answer is missing from the log, what is gone was
not said or did not come back, or anything ran on.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil

from deepprune.base import config, jsonl, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.base.tasks import together
from deepprune.engines import models
from deepprune.engines.servers import metric
from deepprune.engines.serving import answers, free_port, kill, metrics, serve

ROOT = Path(__file__).resolve().parent.parent
FAKE = "HuggingFaceTB/SmolLM2-135M-Instruct"
METHODS = ("adaptive-16", "consensus-8", "esc-16", "deepconf-16", "deepprune-16")
PHASES = {"judge": (0.30, 0.45), "reasoner": (0.62, 0.77)}  # shares of the time: killed, started again


@dataclasses.dataclass
class LoadSettings:
    output: str = setting(config.REQUIRED, "folder of what is written")
    minutes: float = setting(10.0, "how long", above=0)
    clients: int = setting(64, "questions at once", at_least=1)
    hang_up: float = setting(0.2, "share of the questions that are hung up on", at_least=0, at_most=1)
    model: str | None = setting(None, "serve this model with vLLM as reasoner and judge (default: made-up servers)")
    max_tokens: int = setting(128, "longest trace, in tokens", at_least=1)
    tokens_a_second: float = setting(60.0, "made-up servers: of each trace", above=0)
    most_growth: float = setting(
        64.0, "MiB by which the server may grow from the second quarter of the time to the last", above=0
    )
    hung_seconds: float = setting(180.0, "a request that takes longer hangs", above=0)
    seed: int = config.seed("seed of what is drawn")


@dataclasses.dataclass
class Seen:
    """What the clients and the watcher saw. replies: (end, status, seconds, model, id, message).

    ends: when the clients stop: not before both servers are back. killed: when a server was, and when it was back.
    """

    ends: float = math.inf
    replies: list[tuple[float, int, float, str, str, str]] = dataclasses.field(default_factory=list)
    hung_up: int = 0
    hanging: list[str] = dataclasses.field(default_factory=list)
    memory: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    health: list[tuple[float, str, str]] = dataclasses.field(default_factory=list)
    killed: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


@command
def main() -> None:
    settings = config.parse(LoadSettings, None, __doc__)
    if settings.model:
        runtime.ensure()
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answers.jsonl").unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        parts = {name: Part(name, settings, folder) for name in PHASES}
        for part in parts.values():
            stack.callback(part.kill)
            part.start()
        process, url = stack.enter_context(endpoint(settings, parts, folder))
        seen = asyncio.run(load(settings, parts, url, process))
        left = until_idle(parts["reasoner"].url)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    figures = summed(settings, seen, folder) | {"requests left in the engine": left, "exit code": code}
    jsonl.write_json(folder / "load.json", figures)
    print(json.dumps(figures, indent=1))
    check(settings, figures)


class Part:
    """The reasoner's or the judge's server, always at the same address."""

    def __init__(self, name: str, settings: LoadSettings, folder: Path):
        self.settings, self.log, self.port = settings, folder / f"{name}.log", free_port()
        self.url, self.stack = f"http://127.0.0.1:{self.port}/v1", contextlib.ExitStack()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.stack.enter_context(self._vllm() if self.settings.model else self._fake())

    def _vllm(self):
        model = models.resolve(self.settings.model).path
        return serve(model, self.log, "--hf-overrides", '{"head_dtype": "float32"}', port=self.port)

    @contextlib.contextmanager
    def _fake(self) -> Iterator[None]:
        options = f"--port {self.port} --tokens-a-second {self.settings.tokens_a_second} --model {FAKE}"
        with open(self.log, "w") as out:
            script = [sys.executable, ROOT / "benchmarks" / "fake_vllm.py", *options.split()]
            process = subprocess.Popen(script, stdout=out, stderr=out, start_new_session=True)
        try:
            wait(lambda: answers(f"{self.url}/models"), process, self.log)
            yield
        finally:
            kill(process)

    def kill(self) -> None:
        self.stack.close()


def wait(condition: Callable[[], object], process: subprocess.Popen, log: Path) -> None:
    """Wait until condition() is true. Raises UserError if the process ends before."""
    while not condition():
        if process.poll() is not None:
            raise UserError(f"{log}: ended: {log.read_text()[-2000:]}")
        time.sleep(0.2)


@contextlib.contextmanager
def endpoint(settings: LoadSettings, parts: dict[str, Part], folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """(process, URL) of Online/serve.py, when it listens."""
    model = settings.model or FAKE
    options = {
        "reasoner": model,
        "reasoner-url": parts["reasoner"].url,
        "judge-model": model,
        "judge-url": parts["judge"].url,
        "least-label-mass": 0,
        "truncation-k": 2,
        "k1": 2,
        "deepconf-warmup": 4,
        "max-tokens": settings.max_tokens,
        "questions": settings.clients,
        "name": "load",
        "probe-seconds": 2,
        "retries": 1,
        "port": 0,
        "log": folder / "answers.jsonl",
    }
    arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    log = folder / "serve.log"
    with open(log, "w") as out:
        script = [sys.executable, ROOT / "Online" / "serve.py", *arguments]
        process = subprocess.Popen(script, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
    try:
        wait(lambda: "listening on " in log.read_text(), process, log)
        yield process, log.read_text().partition("listening on ")[2].split()[0].removesuffix(":").removesuffix("/v1")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def load(settings: LoadSettings, parts: dict[str, Part], url: str, process: subprocess.Popen) -> Seen:
    """Clients, the watcher and the killer side by side, for the whole time."""
    started = time.monotonic()
    seen = Seen()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.clients)
    async with httpx.AsyncClient(base_url=url, timeout=settings.hung_seconds, limits=limits) as http:
        watching = asyncio.create_task(watch(http, psutil.Process(process.pid), seen, started))
        clients = [client(settings, http, seen, started, number) for number in range(settings.clients)]
        await together([kill_and_start(settings, parts, seen, started), *clients])
        watching.cancel()
    return seen


async def client(settings: LoadSettings, http: httpx.AsyncClient, seen: Seen, started: float, number: int) -> None:
    """One question after the other until the time is over."""
    rng = random.Random(f"{settings.seed}/{number}")
    while time.monotonic() < seen.ends:
        body = {
            "model": f"load-{rng.choice(METHODS)}",
            "messages": [{"role": "user", "content": f"What is {rng.randrange(100)} + {rng.randrange(100)}?"}],
            "stream": rng.random() < 0.5,
        }
        asking = asyncio.create_task(ask(http, body))
        before = time.monotonic()
        patience = rng.uniform(0.01, 4) if rng.random() < settings.hang_up else settings.hung_seconds
        await asyncio.wait([asking], timeout=patience)
        if not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            if patience == settings.hung_seconds:
                seen.hanging.append(json.dumps(body))
            else:
                seen.hung_up += 1
            continue
        now = time.monotonic()
        status, known, message = asking.result()
        seen.replies.append((now - started, status, now - before, body["model"], known, message))
        if status != 200:
            await asyncio.sleep(rng.uniform(0.2, 1))  # as a client would that reads Retry-After, but sooner


async def ask(http: httpx.AsyncClient, body: dict) -> tuple[int, str, str]:
    """(status, id of the answer, message of an error); an error in a stream counts as the status that it is."""
    try:
        reply = await http.post("/v1/chat/completions", json=body)
    except httpx.ReadTimeout:
        return 599, "", "no answer in time"
    except httpx.HTTPError as error:
        return 598, "", f"{type(error).__name__}: {error}"
    if reply.status_code != 200:
        return reply.status_code, "", reply.json()["error"]["message"]
    if not body["stream"]:
        return 200, reply.json()["id"], ""
    events = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    first = json.loads(events[0])
    if "error" in first:
        return 503 if first["error"]["code"] == "unavailable" else 500, "", first["error"]["message"]
    return (200, first["id"], "") if events[-1] == "[DONE]" else (597, first["id"], "the stream broke off")


async def watch(http: httpx.AsyncClient, process: psutil.Process, seen: Seen, started: float) -> None:
    """Memory and /health, each second."""
    while True:
        seen.memory.append((time.monotonic() - started, process.memory_info().rss // 2**20))
        with contextlib.suppress(httpx.HTTPError):
            state = (await http.get("/health")).json()
            now = time.monotonic() - started
            seen.health.append((now, state["reasoner"]["state"], state["judge"]["state"]))
        await asyncio.sleep(1)


async def kill_and_start(settings: LoadSettings, parts: dict[str, Part], seen: Seen, started: float) -> None:
    """Kill the judge, start it again and wait for the first answer that needs it; then the reasoner."""
    whole = 60 * settings.minutes
    for name, (first, last) in PHASES.items():
        await asyncio.sleep(max(0.0, started + first * whole - time.monotonic()))
        killed = time.monotonic() - started
        await asyncio.to_thread(parts[name].kill)
        await asyncio.sleep((last - first) * whole)
        await asyncio.to_thread(parts[name].start)
        back = time.monotonic() - started
        seen.killed[name] = (killed, back)
        while not answered_since(name, seen, back) and time.monotonic() < started + back + settings.hung_seconds:
            await asyncio.sleep(1)
    seen.ends = max(started + whole, time.monotonic())


def answered_since(name: str, seen: Seen, at: float) -> list[float]:
    """When questions that need a part were answered, from a time on."""
    return [r[0] for r in needing(name, seen) if r[0] > at and r[1] == 200]


def needing(name: str, seen: Seen) -> list[tuple]:
    """The replies to questions that need a part: the reasoner is needed by all, the judge by pruning."""
    return [r for r in seen.replies if name == "reasoner" or "deepprune" in r[3]]


def until_idle(url: str) -> int:
    """Requests that the reasoner's server still has: those of clients that have gone leave it within a second or so."""
    for _ in range(20):
        time.sleep(0.5)
        left = metric(metrics(url), "vllm:num_requests_running", "vllm:num_requests_waiting")
        if not left:
            break
    return left


def summed(settings: LoadSettings, seen: Seen, folder: Path) -> dict:
    """The figures of a run."""
    logged = [row["id"] for _, row in jsonl.read(folder / "answers.jsonl")]
    answered = {known for _, status, _, _, known, _ in seen.replies if status == 200}
    waits = sorted(seconds for _, status, seconds, _, _, _ in seen.replies if status == 200)
    quarter = 60 * settings.minutes / 4

    def mean_memory(start: float) -> float:
        sizes = [size for at, size in seen.memory if start <= at < start + quarter]
        return sum(sizes) / max(1, len(sizes))

    return {
        "minutes": settings.minutes,
        "clients": settings.clients,
        "replies by status": dict(collections.Counter(str(status) for _, status, *_ in seen.replies)),
        "why 597, 598, 599": sorted({message for _, status, *_, message in seen.replies if 597 <= status <= 599}),
        "answers by model": dict(collections.Counter(r[3] for r in seen.replies if r[1] == 200)),
        "hung up": seen.hung_up,
        "requests that hung": len(seen.hanging),
        "seconds of an answer (median, longest)": [waits[len(waits) // 2], waits[-1]] if waits else None,
        "seconds of an error (longest)": max((r[2] for r in seen.replies if r[1] != 200), default=None),
        "answered, not in the log": len(answered - set(logged)),
        "rows in the log": len(logged),
        "gone": {name: told(name, seen) for name in seen.killed},
        "memory in MiB, by tenth of the time": [size for _, size in seen.memory[:: max(1, len(seen.memory) // 10)]],
        "growth in MiB, second to last quarter": round(mean_memory(3 * quarter) - mean_memory(quarter), 1),
    }


def told(name: str, seen: Seen) -> dict:
    """What was said of a part while it was gone, and how soon; how soon it was back."""
    killed, back = seen.killed[name]
    gone = [r for r in needing(name, seen) if killed <= r[0] and r[1] == 503 and f"he {name} " in r[5]]
    state = {"reasoner": 1, "judge": 2}[name]
    unhealthy = [row[0] for row in seen.health if killed <= row[0] <= back and row[state] == "gone"]
    healthy = [row[0] for row in seen.health if row[0] >= back and row[state] == "ok"]
    after = answered_since(name, seen, back)
    return {
        "replies 503": len(gone),
        "first 503, seconds after": round(gone[0][0] - killed, 1) if gone else None,
        "a reason": gone[-1][5][:200] if gone else None,
        "/health says so, seconds after": round(unhealthy[0] - killed, 1) if unhealthy else None,
        "/health is ok again, seconds after it was": round(healthy[0] - back, 1) if healthy else None,
        "first answer, seconds after it was back": round(after[0] - back, 1) if after else None,
    }


def check(settings: LoadSettings, figures: dict) -> None:
    """Raise UserError if something must not be so."""
    strange = sorted(set(figures["replies by status"]) - {"200", "429", "503"})
    faults = [
        f"{figures['requests that hung']} requests hung" * bool(figures["requests that hung"]),
        f"{figures['answered, not in the log']} answers are not in the log" * bool(figures["answered, not in the log"]),
        f"replies of status {', '.join(strange)}" * bool(strange),
        f"{figures['requests left in the engine']} requests ran on" * bool(figures["requests left in the engine"]),
        f"ended with {figures['exit code']}" * bool(figures["exit code"]),
        "memory grew" * (figures["growth in MiB, second to last quarter"] > settings.most_growth),
        *(f"{name}: {what}: never" for name, row in figures["gone"].items() for what, at in row.items() if at is None),
    ]
    if any(faults):
        raise UserError("; ".join(filter(None, faults)))


if __name__ == "__main__":
    main()

"""A `vllm serve` of our own for a block of code: what benchmarks and tests ask servers with."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.engines import engine


def free_port() -> int:
    """A port that nobody has and, below those that the system hands out (from 32768), nobody is given meanwhile."""
    for port in random.sample(range(20000, 32000), 1000):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise UserError("no free port between 20000 and 32000")


@contextlib.contextmanager
def serve(model: str, log: str | Path, *more: str, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """(URL, process) of a vLLM server on loopback, in float32, when it answers; killed when the block is left.

    log: file of what it prints; more: further options of `vllm serve`; port: a free one unless given. Raises UserError
    if it ends before it answers.
    """
    port = port or free_port()
    options = f"--host 127.0.0.1 --port {port} --max-model-len 2048 --max-num-seqs 8 --dtype float32 --enforce-eager"
    # What `vllm serve` runs; the CPU build's command line looks for its version under the other package name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *options.split()]
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*command, "--block-size", "32", *more],
            stdout=out,
            stderr=out,
            # Bound to no core: of two engines that are bound to the same ones, one may starve.
            env=runtime.environment() | {runtime.BIND: "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
            start_new_session=True,
        )
    engine.end_when_killed(process.pid)  # with this process
    try:
        while not answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None:
                raise UserError(f"{log}: the server ended: {Path(log).read_text()[-3000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        kill(process)


def answers(url: str) -> bool:
    """Whether a URL is answered."""
    with contextlib.suppress(urllib.error.URLError, OSError):
        return urllib.request.urlopen(url, timeout=10).status == 200
    return False


def metrics(url: str) -> str:
    """What a server says of itself; url: as `serve` gives it."""
    return urllib.request.urlopen(url.removesuffix("/v1") + "/metrics", timeout=600).read().decode()


def kill(process: subprocess.Popen) -> None:
    """Kill a server at once, as a machine that breaks down would."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

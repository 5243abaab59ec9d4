"""A real `vllm serve` on loopback for tests, and what they do with one: wait for it, cut it off."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from deepprune.base import runtime
from deepprune.engines import engine


def until(condition, seconds=1800):
    """Wait until condition() is true, however busy the machine is; fail after so many seconds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not within {seconds} s"
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody has and, below those that the system hands out (from 32768), nobody is given meanwhile."""
    for port in random.sample(range(20000, 32000), 1000):
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def serve(model, folder, *more):
    """(URL, process) of a vLLM server, its log in folder. more: further options of `vllm serve`."""
    port = free_port()
    options = f"--host 127.0.0.1 --port {port} --max-model-len 2048 --max-num-seqs 8 --dtype float32 --enforce-eager"
    # What `vllm serve` runs; the CPU build's command line looks for its version under the other package name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *options.split()]
    with open(Path(folder) / f"log-{port}.txt", "w") as log:
        process = subprocess.Popen(
            [*command, "--block-size", "32", *more],
            stdout=log,
            stderr=log,
            env=runtime.environment() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
            start_new_session=True,
        )
    engine.end_when_killed(process.pid)  # with the tests
    url = f"http://127.0.0.1:{port}"

    def answers():
        assert process.poll() is None, Path(log.name).read_text()[-3000:]
        with contextlib.suppress(urllib.error.URLError, OSError):
            return urllib.request.urlopen(f"{url}/health", timeout=10)

    try:
        until(answers)
        yield f"{url}/v1", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Relay:
    """A TCP relay to the server that can be cut: a judge server that is killed, without starting a second one."""

    def __init__(self, url):
        self.target = int(url.rsplit(":", 1)[1].removesuffix("/v1"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.open, self.requests, self.cut_after = [], 0, None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.open += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(a, b, a is client), daemon=True).start()

    def pump(self, source, sink, counted):
        try:
            while data := source.recv(65536):
                self.requests += counted and data.count(b"POST ")
                if self.cut_after is not None and self.requests > self.cut_after:
                    self.close()
                    return
                sink.sendall(data)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def is_idle(server) -> bool:
    """Whether the server has no request, by its own metrics."""
    text = urllib.request.urlopen(server[0].removesuffix("/v1") + "/metrics", timeout=600).read().decode()
    return not sum(
        float(x.split()[-1])
        for x in text.splitlines()
        if x.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
    )

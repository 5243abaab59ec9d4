"""Online/serve.py as a user starts it, with an engine of its own that is killed, and with servers that are."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
from conftest import ROOT
from servers import until

from deepprune.base import jsonl
from deepprune.engines.serving import free_port


@contextlib.contextmanager
def started(folder, *options):
    """(process, URL) of the script, when it listens. What it prints is in folder/serve.txt."""
    log = folder / "serve.txt"
    with open(log, "w") as out:
        command = [sys.executable, "Online/serve.py", *map(str, options), "--port", "0", "--log", folder / "log.jsonl"]
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: "listening on " in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process, log.read_text().partition("listening on ")[2].split("/v1")[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def get(url, body=None):
    """(status, JSON)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        answer = urllib.request.urlopen(request, timeout=600)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, json.loads(answer.read())


def ask(url, model, **more):
    body = {"model": model, "messages": [{"role": "user", "content": "What is 2 + 2?"}]} | more
    return get(f"{url}/v1/chat/completions", body)


def test_an_engine_that_is_killed_is_started_again(tiny, tmp_path):
    options = ["--reasoner", tiny, "--max-model-len", 512, "--max-tokens", 40, "--dtype", "float32", "--name", "tiny"]
    with started(tmp_path, *options, "--judge", "random", "--truncation-k", 1, "--probe-seconds", 0.2) as (
        process,
        url,
    ):
        for method in ("adaptive", "deepconf", "deepprune"):
            status, reply = ask(url, f"tiny-{method}-4")
            tokens, usage = reply["deepprune"]["tokens"]["total"], reply["usage"]
            assert status == 200 and 0 < usage["completion_tokens"] == tokens <= 160
            assert usage["completion_tokens_details"]["reasoning_tokens"] >= tokens - 40
        status, reply = ask(url, "tiny-consensus-1", messages=[{"role": "user", "content": "word " * 600}])
        assert status == 400 and reply["error"]["code"] == "context_length_exceeded"
        (engine,) = (p for p in psutil.Process(process.pid).children(True) if "EngineCore" in " ".join(p.cmdline()))
        engine.kill()
        until(lambda: get(f"{url}/health")[0] == 503)
        status, reply = ask(url, "tiny-adaptive-4")
        assert status == 503 and "The reasoner is gone: the engine died" in reply["error"]["message"]
        until(lambda: get(f"{url}/health")[0] == 200)
        assert ask(url, "tiny-adaptive-4")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0 and "ended; 4 questions were answered" in (tmp_path / "serve.txt").read_text()
    assert len(list(jsonl.read(tmp_path / "log.jsonl"))) == 4


def test_servers_that_are_killed_are_asked_again_when_they_are_back(smol, tmp_path):
    """With made-up servers (benchmarks/fake_vllm.py)."""
    ports, running = {"reasoner": free_port(), "judge": free_port()}, {}

    def start(name):
        command = [sys.executable, "benchmarks/fake_vllm.py", "--model", smol, "--port", str(ports[name])]
        running[name] = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: is_there(ports[name]) or running[name].poll() is not None)

    def kill(name):
        running[name].kill()
        running[name].wait()

    urls = {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}
    options = [
        "--reasoner",
        smol,
        "--reasoner-url",
        urls["reasoner"],
        "--judge-model",
        smol,
        "--judge-url",
        urls["judge"],
    ]
    more = ["--least-label-mass", 0, "--truncation-k", 2, "--retries", 0, "--probe-seconds", 0.2, "--name", "fake"]
    try:
        start("reasoner"), start("judge")
        with started(tmp_path, *options, *more, "--max-tokens", 128) as (_, url):
            assert ask(url, "fake-deepprune-4")[0] == ask(url, "fake-adaptive-4")[0] == 200
            for name in ports:
                kill(name)
                until(lambda name=name: get(f"{url}/health")[1][name]["state"] == "gone")
                status, reply = ask(url, "fake-deepprune-4")
                assert (
                    status == 503 and f"The {name} is gone: {urls[name]}: nobody answers" in reply["error"]["message"]
                )
                assert ask(url, "fake-adaptive-4")[0] == (503 if name == "reasoner" else 200)
                start(name)
                until(lambda: get(f"{url}/health")[1]["status"] == "ok")
                assert ask(url, "fake-deepprune-4")[0] == 200
    finally:
        for name in running:
            kill(name)


def is_there(port):
    with contextlib.suppress(OSError):
        return get(f"http://127.0.0.1:{port}/health")[0] == 200
    return False

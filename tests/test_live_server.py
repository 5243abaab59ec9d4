"""Live pruning against a real `vllm serve` on loopback: one small model is reasoner and judge."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, make_problem, run_stage

from deepprune import judges, records, runtime
from deepprune.reasoners import Sampling, ServerReasoner

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
N = 6


@pytest.fixture(scope="module")
def server(smol, tmp_path_factory):
    """(URL, process) of a vLLM server with SmolLM2-135M."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("server") / "log.txt", "w")
    process = subprocess.Popen(
        # What `vllm serve` runs; the CPU build's command line looks for its version under the other package name.
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", smol, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048",
         "--max-num-seqs", "8", "--dtype", "float32", "--enforce-eager", "--block-size", "32"],
        stdout=log, stderr=log, env=runtime.environment(), start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
            break
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, Path(log.name).read_text()[-3000:]
            time.sleep(1)
    else:
        pytest.fail("the server did not answer within 300 s")
    yield f"{url}/v1", process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    records.write(path, [make_problem(i, str(2 * i)) for i in (11, 12)])
    return path


def options(server, problems, output):
    return ["Online/live_pruning.py", "--reasoner", SMOL, "--reasoner-url", server[0], "--judge", "server", "--judge-model", SMOL,
            "--judge-url", server[0], "--problems", problems, "--n", N, "--max-tokens", "120", "--temperature", "1.0", "--truncation-k", "1",
            "--tau", "0.5", "--k1", "2", "--k2", "2", "--k3", "2", "--least-label-mass", "0", "--output", output]  # fmt: skip


def test_a_live_run_counts_as_the_server_does_and_replays(server, problems, tmp_path):
    output = tmp_path / "live.jsonl"
    done = run_stage(*options(server, problems, output))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    line = next(x for x in done.stdout.splitlines() if "by our count" in x)
    reported, counted = (int(x.replace(",", "")) for x in (line.split()[0], line.split("count,")[1].split()[0]))
    assert abs(reported - counted) <= 0.01 * counted
    assert line.endswith("requests left running: 0")
    traces = list(records.read(records.Trace, tmp_path / "live.traces.jsonl"))
    pruned = list(records.read(records.Pruning, output))
    assert (
        len(traces) == 2 * N and sum(t.n_tokens for t in traces) == sum(p.tokens["total"] for p in pruned) == reported
    )
    finished = {i for p in pruned for i in p.finished}
    assert all(
        (t.finish_reason == "abort") == (t.trace_id not in finished) or t.finish_reason != "abort" for t in traces
    )
    assert any(t.finish_reason == "abort" for t in traces)
    events = [json.loads(x) for x in open(tmp_path / "live.events.jsonl")]
    assert sum(e["event"] == "started" for e in events) == 2 * N and sum(e["event"] == "answered" for e in events) == 2
    # The recorded prefixes through stage 05, with the same judge in this process: the same clusters.
    replay = run_stage("Online/greedy_cluster_threshold.py", "--problems", problems, "--traces", tmp_path / "live.traces.jsonl", "--judge",
                       "transformers", "--model", SMOL, "--tokenizer", SMOL, "--truncation-k", "1", "--k1", "2", "--k2", "2", "--k3", "2",
                       "--tau", "0.5", "--least-label-mass", "0", "--output", tmp_path / "replay.jsonl")  # fmt: skip
    assert replay.returncode == 0, replay.stderr
    again = {p.problem_id: p.clusters for p in records.read(records.Pruning, tmp_path / "replay.jsonl")}
    assert {p.problem_id: p.clusters for p in pruned} == again
    # Everything is there: the same command does nothing more.
    more = run_stage(*options(server, problems, output))
    assert more.returncode == 0 and "2 done before, 0 to answer" in more.stdout


def test_the_judge_on_a_server_gives_the_scores_of_transformers(server, smol):
    from deepprune.judges.server import ServerJudge
    from deepprune.judges.transformers import TransformersJudge

    requests = [judges.Request(f"What is {i} + 2?", "We add. So", f"First {i}, then", "a", "b") for i in range(5)]
    there, here = ServerJudge(smol, server[0]), TransformersJudge(smol)
    for a, b in zip(there.score(requests), here.score(requests), strict=True):
        assert a.p_same == pytest.approx(b.p_same, abs=1e-3) and a.prompt_tokens == b.prompt_tokens
        assert (
            a.label_mass == pytest.approx(b.label_mass, rel=0.02) and a.label_mass < 0.5
        )  # of all tokens, not of the two
    there.least_label_mass = here.least_label_mass = 0.5
    for judge in (there, here):  # SmolLM2 untrained is no judge
        with pytest.raises(
            judges.NotAJudge, match=r"SmolLM2.* have 0\.0\d+ of the probability on the first .*would rather answer '"
        ):
            judge.score(requests)
    there.close()


def test_wrong_urls_are_one_clear_line(server, problems, tmp_path):
    arguments = options(server, problems, tmp_path / "x.jsonl")
    arguments[arguments.index("--judge-url") + 1] = "http://127.0.0.1:9/v1"
    done = run_stage(*arguments)
    assert done.returncode == 2 and "http://127.0.0.1:9/v1: no OpenAI-compatible server answers there" in done.stderr


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
        for one in self.open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def left_running(server, seconds=1.0):
    """Requests in the server after at most so many seconds, by its own metrics."""
    ends = time.monotonic() + seconds
    while True:
        text = urllib.request.urlopen(server[0].removesuffix("/v1") + "/metrics", timeout=5).read().decode()
        count = sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{")))  # fmt: skip
        if not count or time.monotonic() > ends:
            return count
        time.sleep(0.1)


def test_an_aborted_request_is_gone_within_a_second(server, smol):
    async def work():
        reasoner = ServerReasoner(server[0], smol)
        await reasoner.open()
        stop, tokens = asyncio.Event(), 0
        before = await reasoner.generated()
        prompt = reasoner.tokenizer.encode("Count: one, two, three,")
        async for chunk in reasoner.stream(prompt, Sampling(1.0, 1.0, 1500), 1500, stop):
            tokens += len(chunk.token_ids)
            if tokens >= 5:
                stop.set()
        assert chunk.finish_reason == "abort"
        await asyncio.sleep(0.5)
        assert 0 <= await reasoner.generated() - before - tokens <= 2  # what was made until the server noticed
        await reasoner.close()
        return tokens

    assert 5 <= asyncio.run(work()) < 200
    assert left_running(server) == 0


def test_a_killed_judge_is_named_and_the_run_can_go_on_as_consensus(server, problems, tmp_path):
    relay = Relay(server[0])
    relay.cut_after = 4
    arguments = options(server, problems, tmp_path / "live.jsonl")
    arguments[arguments.index("--judge-url") + 1] = relay.url
    done = run_stage(*arguments, "--retries", "0", "--questions", "1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert (
        "judge" in done.stderr
        and "--on-judge-failure consensus" in done.stderr
        and "run the same command again" in done.stderr
    )
    assert left_running(server) == 0
    events = [json.loads(x) for x in open(tmp_path / "live.events.jsonl")]
    assert any(e["event"] == "judged" for e in events)
    relay = Relay(server[0])
    relay.cut_after = 4
    arguments[arguments.index("--judge-url") + 1] = relay.url
    done = run_stage(*arguments, "--retries", "0", "--questions", "1", "--on-judge-failure", "consensus")
    assert done.returncode == 0, done.stdout + done.stderr
    pruned = list(records.read(records.Pruning, tmp_path / "live.jsonl"))
    lost = [p for p in pruned if p.settings["judge_failed"]]
    assert lost and len(pruned) == 2 and all(len(p.finished) == N and not p.clusters for p in lost)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_no_request_and_goes_on(server, problems, tmp_path, number):
    records.write(problems, [make_problem(i, str(2 * i)) for i in range(20, 26)])
    arguments = [*options(server, problems, tmp_path / "live.jsonl"), "--questions", "2"]
    child = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pruned = tmp_path / "live.jsonl"
    for _ in range(240):
        if pruned.is_file() and pruned.read_text().count("\n") >= 1:
            break
        time.sleep(0.25)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "run the same command again" in err, out + err
    assert left_running(server) == 0
    before = list(records.read(records.Pruning, pruned))
    assert 1 <= len(before) < 6
    done = run_stage(*arguments)
    assert done.returncode == 0, done.stderr
    after = list(records.read(records.Pruning, pruned))
    assert f"{len(before)} done before" in done.stdout and after[: len(before)] == before and len(after) == 6
    kept = {t.trace_id for t in records.read(records.Trace, tmp_path / "live.traces.jsonl")}
    assert {i for p in after for c in p.clusters for i in c} == kept


def test_a_refused_request_is_one_clear_line(server, tmp_path):
    long = tmp_path / "long.jsonl"
    records.write(long, [make_problem(1, "2"), records.Problem.new("test", "What is 1" + " + 1" * 3000 + "?", "3001")])
    done = run_stage(*options(server, long, tmp_path / "live.jsonl"), "--questions", "1")
    assert done.returncode == 2 and "refused a request" in done.stderr and "2048" in done.stderr
    assert len(list(records.read(records.Pruning, tmp_path / "live.jsonl"))) == 1  # the first question's answer is kept


def test_a_reasoner_server_that_dies_leaves_what_was_finished(server, problems, tmp_path):
    """The last test of the file: it kills the server."""
    records.write(problems, [make_problem(i, str(2 * i)) for i in range(20, 60)])
    output = tmp_path / "live.jsonl"
    arguments = [*options(server, problems, output), "--max-tokens", "600", "--retries", "0"]
    child = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    traces = tmp_path / "live.traces.jsonl"
    for _ in range(240):
        if traces.is_file() and traces.read_text().count("\n") >= 3:
            break
        time.sleep(0.5)
    os.killpg(server[1].pid, signal.SIGKILL)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 2, out + err
    assert "run the same command again to continue" in err
    rows = list(records.read(records.Trace, traces))  # whole lines, well formed
    assert len(rows) >= 3 and [json.loads(x) for x in open(tmp_path / "live.events.jsonl")]

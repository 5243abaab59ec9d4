"""Live pruning against a real `vllm serve` on loopback: one small model is reasoner and judge."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, make_problem, run_stage

from deepprune import judges, records, runtime

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
            "--tau", "0.5", "--k1", "2", "--k2", "2", "--k3", "2", "--output", output]  # fmt: skip


def test_a_live_run_counts_as_the_server_does_and_replays(server, problems, tmp_path):
    output = tmp_path / "live.jsonl"
    done = run_stage(*options(server, problems, output))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    line = next(x for x in done.stdout.splitlines() if "by our count" in x)
    reported, counted = (int(x.replace(",", "")) for x in (line.split()[0], line.split("count,")[1].split()[0]))
    assert abs(reported - counted) <= max(
        0.01 * counted, 2 * N * 2
    )  # a token or two may be made before an abort arrives
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
                       "--tau", "0.5", "--output", tmp_path / "replay.jsonl")  # fmt: skip
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
    there.close()


def test_wrong_urls_are_one_clear_line(server, problems, tmp_path):
    arguments = options(server, problems, tmp_path / "x.jsonl")
    arguments[arguments.index("--judge-url") + 1] = "http://127.0.0.1:9/v1"
    done = run_stage(*arguments)
    assert done.returncode == 2 and "http://127.0.0.1:9/v1: no OpenAI-compatible server answers there" in done.stderr


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

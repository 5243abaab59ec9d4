"""The math-verify process: numbered requests, late or dead workers, forks, threads, and no orphans."""

import concurrent.futures
import os
import subprocess
import sys
import time

import pytest

from deepprune.base.errors import UserError
from deepprune.data import answers
from deepprune.data.answers import equality, math_worker
from deepprune.data.answers.math_worker import MathWorker, Outcome, Values

READY = 'import json, os, sys, time\nprint(json.dumps({"id": 0, "ready": True}), flush=True)\n'
LOOP = "for line in sys.stdin:\n    r = json.loads(line)\n"
HONEST = '    print(json.dumps({"id": r["id"], "same": r["a"] == r["b"]}), flush=True)\n'


@pytest.fixture
def fake(tmp_path):
    """A worker that runs the given script; its starts are counted in the file `starts` of the test's folder."""
    workers = []

    def make(script: str) -> MathWorker:
        path = tmp_path / "worker.py"
        path.write_text(
            f"starts = open({str(tmp_path / 'starts')!r}, 'a'); starts.write('x'); starts.close()\n" + script
        )
        workers.append(MathWorker([sys.executable, str(path)]))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()


def starts(folder) -> int:
    return len((folder / "starts").read_text())


def test_real_worker_compares_and_survives_what_it_cannot_read():
    worker = MathWorker()
    assert worker.same(r"\frac{\pi}{3}", r"\pi /3", 60.0) == Outcome(True)
    assert worker.same("x+1", "x+2", 60.0) == Outcome(False)
    assert worker.same(r"\frac{", "@@@", 60.0).same is not True
    assert worker.same("(" * 300 + "x" + ")" * 300, "x", 0.5).same is not False
    assert worker.same("x+1", "1+x", 60.0) == Outcome(True)
    assert worker.values(r"\frac{3}{4}", 60.0) == Values([0.75, 0.0])
    assert worker.values("x+1", 60.0) == worker.values("1+x", 60.0) != worker.values("y+1", 60.0)
    assert [worker.values(text, 60.0) for text in ("x=3", "(1,2)", "@@@", "x")] == [Values(None)] * 4
    worker.close()


def test_output_that_is_no_reply_and_replies_to_other_questions_are_passed_over(fake):
    worker = fake(
        READY + LOOP + '    print("Loading font cache", 3, None, "[1, 2]", flush=True)\n    print("true\\n7\\n[]")\n'
        '    print(json.dumps({"id": r["id"] - 1, "same": r["a"] != r["b"]}), flush=True)\n' + HONEST
    )
    assert [worker.same(a, b, 60.0).same for a, b in (("1", "1"), ("1", "2"), ("2", "2"))] == [True, False, True]


def test_a_late_reply_is_never_the_next_questions(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(math_worker, "WALL_SECONDS", 0.2)
    worker = fake(READY + LOOP + '    time.sleep(1e6 if r["a"] == "slow" else 0)\n' + HONEST)
    assert worker.same("slow", "slow", 0.01) == Outcome(None, hung=True)
    monkeypatch.setattr(math_worker, "WALL_SECONDS", 60.0)
    assert worker.same("1", "2", 0.01) == Outcome(False)
    assert worker.same("2", "2", 0.01) == Outcome(True)
    assert starts(tmp_path) == 2 and worker.asked == 3


def test_a_worker_that_is_not_ready_in_time_is_killed_and_leaves_nothing_behind(fake, monkeypatch):
    processes = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: processes.append(popen(*a, **k)) or processes[-1])
    monkeypatch.setattr(math_worker, "START_SECONDS", 0.2)
    worker = fake("import time\ntime.sleep(1e6)\n")
    with pytest.raises(UserError, match="did not start"):
        worker.same("1", "2", 1.0)
    assert len(processes) == 2 and all(p.poll() is not None for p in processes)


def test_a_worker_that_cannot_start_is_said_and_not_remembered(fake, monkeypatch):
    pair = ("x+2+never-seen", "2+x+never-seen")
    with monkeypatch.context() as patch:
        patch.setattr(equality, "_worker", fake("raise SystemExit('no module named sympy')"))
        with pytest.raises(UserError, match="no module named sympy"):
            answers.same(*pair)
    assert answers.same(*pair) is True


def test_a_worker_that_dies_is_asked_once_more(fake, tmp_path):
    once = tmp_path / "once"
    worker = fake(
        READY
        + LOOP
        + f'    if not os.path.exists({str(once)!r}):\n        open({str(once)!r}, "w"); os._exit(3)\n'
        + HONEST
    )
    assert worker.same("1", "1", 60.0) == Outcome(True)
    assert (starts(tmp_path), worker.asked) == (2, 2)
    worker.process.kill()
    worker.process.wait()
    assert worker.same("1", "2", 60.0) == Outcome(False)
    assert starts(tmp_path) == 3


def test_a_worker_that_dies_of_the_question_is_not_asked_for_ever(fake, tmp_path):
    worker = fake(READY + LOOP + '    if r["a"] == "death":\n        os._exit(3)\n' + HONEST)
    assert worker.same("death", "1", 60.0) == Outcome(None, hung=True)
    assert starts(tmp_path) == 2
    assert worker.same("1", "1", 60.0) == Outcome(True)


def test_the_kernel_ends_an_endless_comparison():
    worker = MathWorker()
    assert worker.same("9^{9^{9^{9}}}+x", "9^{9^{9^{8}}}+x", 0.5).hung
    assert worker.same("x+1", "1+x", 60.0) == Outcome(True)
    worker.close()


def test_threads_get_their_own_replies():
    worker = MathWorker()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pairs = [(f"x+{i}", f"{i % 3 + i // 3 * 3}+x" if i % 2 else f"{i + 1}+x") for i in range(40)]
        verdicts = list(pool.map(lambda pair: worker.same(*pair, 60.0).same, pairs))
    assert verdicts == [i % 2 == 1 for i in range(40)]
    worker.close()


def test_a_forked_child_starts_a_worker_of_its_own():
    worker = MathWorker()
    assert worker.same("x+1", "1+x", 60.0).same is True
    pid = worker.process.pid
    worker._lock.acquire()  # as if another thread were in the middle of a comparison
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = worker.process is None
            same = worker.same("x+1", "1+x", 60.0).same
            os.write(write, f"{own} {same} {worker.process.pid != pid}".encode())
            worker.close()
        finally:
            os._exit(0)
    worker._lock.release()
    os.waitpid(child, 0)
    assert os.read(read, 100).decode() == "True True True"
    assert worker.same("x+1", "2+x", 60.0).same is False and worker.process.pid == pid
    worker.close()


def test_the_worker_ends_with_a_killed_parent():
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from deepprune.data.answers.math_worker import MathWorker\nimport time\nw = MathWorker()\n"
            "w.same('x', 'y', 60.0)\nprint(w.process.pid, flush=True)\ntime.sleep(1e6)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    for _ in range(3000):  # as long as it takes; a zombie has ended
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the worker outlived its parent")

import multiprocessing.process
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from deepprune.base.errors import UserError, without_credentials
from deepprune.base.stage import command

CHILD = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
from deepprune.base.stage import command
@command
def main():
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_cleans_up_and_says_how_to_go_on(number):
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "up\n"
    time.sleep(0.1)
    os.kill(child.pid, number)
    out, err = child.communicate(timeout=300)
    assert out == "cleaned up\n" and child.returncode == 130
    assert err.count("\n") == 1 and "run the same command again to continue" in err


def test_user_errors_are_one_line_and_code_2(capsys):
    @command
    def main():
        raise UserError("two\nlines")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and capsys.readouterr().err == "error: two lines\n"


def test_other_errors_keep_their_traceback():
    @command
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


SWALLOWS = """
import os, signal, sys
from deepprune.base import jsonl
from deepprune.base.stage import command
@command
def main():
    with jsonl.Appender(sys.argv[1]) as out:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            pass  # a library that starts up
        for i in range(1000):
            out.append({"i": i})
main()
"""


def test_a_stop_that_a_library_swallowed_takes_effect_at_the_next_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    done = subprocess.run([sys.executable, "-c", SWALLOWS, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 130 and "run the same command again" in done.stderr
    assert path.read_text() == '{"i":0}\n'


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://me:secret@host:8000/v1: no server", "http://host:8000/v1: no server"),
        ("'https://token@host'", "'https://host'"),
        ("https://me:p@ss@host/v1", "https://host/v1"),
        ("a@b.org and http://host/path@x", "a@b.org and http://host/path@x"),
    ],
)
def test_urls_lose_their_credentials(text, clean):
    assert without_credentials(text) == clean
    assert without_credentials({"a": [text, 1, None]}) == {"a": [clean, 1, None]}


def test_no_credentials_in_an_error_or_a_traceback(tmp_path):
    for kind, code in (("UserError", 2), ("ValueError", 1)):
        program = f"""
from deepprune.base.errors import UserError
from deepprune.base.stage import command
@command
def main():
    raise {kind}("http://me:secret@" + "host/v1 is gone")
main()
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
        assert done.returncode == code and "http://host/v1 is gone" in done.stderr
        assert "secret@" not in done.stderr.replace('"http://me:secret@" + "host', "")


class Engine:
    """Stands in for LLMEngine: refuses a prompt called 'long', finishes one request a step."""

    def __init__(self):
        self.open, self.aborted = [], []

    def add_request(self, name, prompt, params):
        if prompt == "long":
            raise ValueError("The prompt (length 300) is longer than max_model_len")
        self.open.append(name)

    def step(self):
        return [types.SimpleNamespace(finished=True, request_id=self.open.pop(0))]

    def abort_request(self, names):
        self.aborted += names


def test_a_refused_request_is_one_line_and_leaves_none_behind():
    from deepprune.engines import engine

    fake = Engine()
    asked = [("1", "short", None), ("2", "long", None)]
    with pytest.raises(UserError, match="vLLM refuses request 2: The prompt"):
        list(engine.run(types.SimpleNamespace(llm_engine=fake), asked))
    assert fake.aborted == ["1"]


def test_a_run_that_is_left_early_leaves_no_request_behind():
    from deepprune.engines import engine

    fake = Engine()
    running = engine.run(types.SimpleNamespace(llm_engine=fake), [(str(i), "short", None) for i in range(9)], window=4)
    assert next(running)[0] == "0"
    running.close()
    assert sorted(fake.aborted) == ["1", "2", "3"]


STARTS = """
import multiprocessing, signal, sys, time
from deepprune.base import runtime
from deepprune.engines import engine
from deepprune.base.stage import command

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored


def serve(ready):  # as vLLM's engine process: its own handlers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ready.set()
    time.sleep(600)


class Process:
    def __init__(self):
        ready = multiprocessing.Event()
        with engine.starting("fake"):
            self.process = multiprocessing.get_context("fork").Process(target=serve, args=(ready,))
            self.process.start()
        ready.wait()
        engine.end_with_process(self, lambda it: it.process.terminate())


@command
def main():
    if sys.argv[1] == "fake":
        started = Process()
    else:
        runtime.ensure()
        started = engine.start(sys.argv[1], dtype="float32", max_model_len=256, max_num_seqs=4)
    if sys.argv[2] == "error":
        raise ZeroDivisionError("after the engine has started")
    print("up", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
"""


def start_engine(folder, *arguments):
    """A process, with a process group of its own, that starts an engine (or what stands in for one)."""
    (folder / "starts.py").write_text(STARTS)
    return subprocess.Popen(
        [sys.executable, folder / "starts.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def of_group(number: int) -> list[str]:
    """The processes of a group that run, by their status line (not those that have ended and wait to be collected)."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = file.read_text().rsplit(")", 1)
        except OSError:  # it has ended meanwhile
            continue
        state, _, group = rest.split()[:3]
        if int(group) == number and state != "Z":
            lines.append(name + rest)
    return lines


def ended(child) -> str:
    """What a process wrote to stderr until it ended; none of its group may be left (helpers end a little later)."""
    _, err = child.communicate(timeout=600)
    deadline = time.monotonic() + 300
    while of_group(child.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not of_group(child.pid)
    return err


def test_an_error_after_an_engine_has_started_ends_it(tmp_path):
    child = start_engine(tmp_path, "fake", "error")
    err = ended(child)  # Python used to wait for the engine's process for ever
    assert child.returncode == 1 and "ZeroDivisionError: after the engine has started" in err


DEAF = """
import multiprocessing, signal
from deepprune.engines import engine
def tell():
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
if __name__ == "__main__":
    with engine.starting("model"):
        for _ in range(2):
            process = multiprocessing.get_context("spawn").Process(target=tell)
            process.start()
            process.join()
"""


def test_an_engines_process_is_deaf_to_ctrl_c_the_first_one_too(tmp_path):
    (tmp_path / "deaf.py").write_text(DEAF)
    done = subprocess.run([sys.executable, tmp_path / "deaf.py"], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.parametrize("kind", ["fake", "vLLM"])
def test_ctrl_c_ends_an_engine_quietly(tmp_path, request, kind):
    child = start_engine(tmp_path, "fake" if kind == "fake" else request.getfixturevalue("tiny"), "wait")
    while child.stdout.readline() not in ("up\n", ""):
        pass
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to every process
    err = ended(child)
    assert child.returncode == 130 and "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("interrupted: ")


def test_an_engine_ends_when_its_stage_is_killed(tmp_path):
    child = start_engine(tmp_path, "fake", "wait")
    while child.stdout.readline() not in ("up\n", ""):
        pass
    assert len(of_group(child.pid)) >= 2  # the stage and its engine
    os.kill(child.pid, signal.SIGKILL)  # the stage alone, as for want of memory: it can clean nothing up
    ended(child)


def test_what_an_engine_refuses_is_one_line():
    from deepprune.engines import engine

    start = multiprocessing.process.BaseProcess.start
    with pytest.raises(UserError, match="vLLM could not start folder: too small"):
        with engine.starting("folder"):
            raise ValueError("too small")
    assert multiprocessing.process.BaseProcess.start is start
    with pytest.raises(UserError, match="core proc.*; -9: the system killed it, most likely because memory ran out"):
        with engine.starting("folder"):  # as vLLM says it
            raise RuntimeError("Engine core initialization failed. Failed core proc(s): {'EngineCore_DP0': -9}")


def test_a_dead_engine_is_one_line_that_says_how_to_go_on():
    from vllm.v1.engine.exceptions import EngineDeadError

    from deepprune.engines import engine

    class Dead:
        def add_request(self, *args):
            pass

        def step(self):
            raise EngineDeadError

    with pytest.raises(UserError, match="engine died.*run the same command again"):
        list(engine.run(types.SimpleNamespace(llm_engine=Dead()), [("1", "prompt", None)]))

import os
import signal
import subprocess
import sys
import time
import types

import pytest

from deepprune.errors import UserError, command, without_credentials

CHILD = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
from deepprune.errors import command
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
    out, err = child.communicate(timeout=20)
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
from deepprune import jsonl
from deepprune.errors import command
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
    done = subprocess.run([sys.executable, "-c", SWALLOWS, path], capture_output=True, text=True, timeout=60)
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
from deepprune.errors import UserError, command
@command
def main():
    raise {kind}("http://me:secret@" + "host/v1 is gone")
main()
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "http://host/v1 is gone" in done.stderr
        assert "secret@" not in done.stderr.replace('"http://me:secret@" + "host', "")


def test_a_dead_engine_is_one_line_that_says_how_to_go_on():
    from vllm.v1.engine.exceptions import EngineDeadError

    from deepprune import engine

    class Dead:
        def add_request(self, *args):
            pass

        def step(self):
            raise EngineDeadError

    with pytest.raises(UserError, match="engine died.*run the same command again"):
        list(engine.run(types.SimpleNamespace(llm_engine=Dead()), [("1", "prompt", None)]))

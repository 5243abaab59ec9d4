"""The benchmark that kills the demo, with stand-ins for the demo."""

import json
import sys

import kill_demo
import pytest

REPORT = {"accuracy": 0.5, "judges": [{"AUROC": 0.7}], "commit": "another one"}


@pytest.fixture
def kill(tmp_path, monkeypatch):
    """Run the benchmark in a folder of its own; returns its exit code."""
    (tmp_path / "scripts").mkdir()
    monkeypatch.setattr(kill_demo, "ROOT", tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kill_demo.py", *arguments])
        with pytest.raises(SystemExit) as end:
            kill_demo.main()
        return end.value.code

    return run


def test_a_demo_is_killed_goes_on_and_is_compared(kill, tmp_path, monkeypatch, capsys):
    calls = []

    def demo(folder, sizes, wait=None):
        calls.append((folder.name, wait is None))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(REPORT | {"commit": folder.name}))
        return "== 03 train: a line" if len(calls) < 4 else kill_demo.DONE

    monkeypatch.setattr(kill_demo, "run", demo)
    assert kill("--kills", "3") == 0
    assert calls == [("whole", True), *[("killed", False)] * 3, ("killed", True)]
    assert "killed 2 times; 2 values of the report compared, 0 differ" in capsys.readouterr().out
    calls.clear()
    assert kill("--kills", "3") == 0 and calls == [("killed", True)]  # goes on, and all is done
    kills = tmp_path / "results/kill/small/kills.json"
    kills.write_text("[]")
    monkeypatch.setattr(kill_demo, "run", lambda *_: kill_demo.DONE)
    (tmp_path / "results/kill/small/killed/report.json").write_text('{"accuracy": 0.5, "judges": [{"AUROC": 0.8}]}')
    assert kill("--kills", "1") == 1
    assert "/judges/0/AUROC: 0.7 undisturbed, 0.8 killed" in capsys.readouterr().out


def test_a_run_ends_killed_done_or_failed(kill, tmp_path, capsys):
    script, folder = tmp_path / "scripts/run_demo.sh", tmp_path / "results/out"
    script.write_text('[ "$DEMO_OUT" = results/out ] && [ "$DEMO_ROWS" = 40 ]')
    assert kill_demo.run(folder, kill_demo.SMALL) == kill_demo.DONE
    script.write_text("echo '== 02 pairs'; sleep 600")
    assert kill_demo.run(folder, {}, 2) in ("== 02 pairs: == 02 pairs", "set-up: nothing said")
    script.write_text("echo no such thing; exit 2")
    assert kill() == 2
    assert "the demo ended with exit code 2" in capsys.readouterr().err
    assert not (tmp_path / "results/kill/small/seconds.json").exists()

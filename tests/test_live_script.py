"""Online/live_pruning.py by every method, with a made-up reasoner: records, manifest, resume, what is refused."""

import contextlib
import json
import signal
import sys
import time
from unittest import mock

import pytest
from conftest import SMOL, load_script, make_problem, run_stage
from test_live import MadeUp, Noisy, texts

from deepprune.base import config, jsonl, records, runtime, stage
from deepprune.judges.calibration import SILENT
from deepprune.prune import live_options, live_setup
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings
from deepprune.prune.methods.posterior import PosteriorSettings

N = 8
OPTIONS = {
    "consensus": ["--consensus-early"],
    "adaptive": ["--adaptive-batch", "3", "--adaptive-rolling", "--adaptive-threshold", "0.9"],
    "esc": ["--esc-window", "2"],
    "deepconf": "--deepconf-warmup 3 --deepconf-keep 0.9 --confidence-window 4 --confidence-stride 2".split(),
    "deepprune": "--judge random --truncation-k 2 --k2 3 --finish adaptive --finish-batch 2".split(),
    "posterior": "--judge random --truncation-k 2 --posterior-m0 4 --posterior-price 0".split(),
}


@pytest.fixture
def script(monkeypatch):
    """Runs the script's main on a MadeUp; returns its exit code (0: none)."""
    live = load_script("Online/live_pruning.py")
    monkeypatch.setattr(runtime, "ensure", lambda: None)

    def run(*options, reasoner=None):
        monkeypatch.setattr(live_setup, "open_reasoner", lambda settings: reasoner or MadeUp(texts(4 * N)))
        monkeypatch.setattr(sys, "argv", ["live_pruning.py", "--reasoner", SMOL, "--n", str(N), *map(str, options)])
        try:
            live.main()
        except SystemExit as end:
            return end.code
        return 0

    return run


@pytest.fixture
def problems(tmp_path):
    path = tmp_path / "problems.jsonl"
    records.write(path, [make_problem(i, "4") for i in range(3)])
    return path


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_recorded_in_full_and_goes_on_after_a_failure(script, problems, tmp_path, method, capsys):
    output = tmp_path / "live.jsonl"
    command = ["--method", method, *OPTIONS[method], "--problems", problems, "--questions", 1, "--output", output]
    assert script(*command, reasoner=MadeUp(texts(4 * N), fail_at=250)) == 2
    assert "the engine died. What ended before is on disk: run the same command again" in capsys.readouterr().err
    before = list(records.read(records.Pruning, output))
    assert len(before) < 3
    assert script(*command) == 0
    printed = capsys.readouterr().out
    assert f"{len(before)} done before, {3 - len(before)} to answer" in printed and "3 questions: accuracy" in printed
    assert ("traces that end before the cut" in printed) == METHODS[method].needs_judge
    rows, traces = (
        list(records.read(records.Pruning, output)),
        list(records.read(records.Trace, tmp_path / "live.traces.jsonl")),
    )
    assert rows[: len(before)] == before and len(rows) == 3
    assert sum(row.tokens["total"] for row in rows) == sum(trace.n_tokens for trace in traces)
    assert {i for row in rows for i in row.finished} <= {t.trace_id for t in traces if t.finish_reason == "stop"}
    events = [json.loads(line) for line in open(tmp_path / "live.events.jsonl")]
    assert [e["event"] for e in events].count("answered") == 3
    # The method and its settings, in the manifest and in each record; nothing of other methods.
    manifest = json.loads((tmp_path / "live.manifest.json").read_text())
    assert manifest["complete"] and manifest["settings"]["method"] == method
    own = {name for other in METHODS for name in live_options.own(other)}
    assert own & manifest["settings"].keys() == live_options.own(method).keys() - {"deepprune_early"}
    assert ("judge" in manifest["settings"]) == METHODS[method].needs_judge
    assert ("tau" in manifest["settings"]) == METHODS[method].clusters
    assert ("confidence_window" in manifest["settings"]) == METHODS[method].needs_confidence
    for row in rows:
        assert row.settings["method"] == method and row.settings["n"] == N and row.settings["live"]
        for name, of in live_options.own(method).items():
            assert row.settings[of] == manifest["settings"].get(name, False)
    assert manifest["judge"]["name"] == rows[0].judge == ("random-0" if METHODS[method].needs_judge else "none")


@pytest.fixture
def signals(monkeypatch):
    """As in a process of its own: both signals are heeded, and belong to the tests again afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    monkeypatch.setattr(stage, "_asked_to_stop", False)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["while the engine starts", "while a trace is generated"])
def test_it_ends_at_once_when_it_is_asked_to(script, signals, capsys, number, when):
    reached, closed = [], []

    class Asked(MadeUp):
        async def open(self):
            if when == "while the engine starts":  # which holds up the event loop
                signal.raise_signal(number)
                time.sleep(0.01)
                reached.append("started")

        async def stream(self, *request, **more):
            async with contextlib.aclosing(super().stream(*request, **more)) as chunks:
                async for chunk in chunks:
                    yield chunk
                    if self.count >= 20 and not reached:
                        reached.append("a token")
                        signal.raise_signal(number)

        async def close(self):
            closed.append(self.open_now)

    assert script("--method", "consensus", "--question", "What is 2 + 2?", reasoner=Asked(texts(4 * N))) == 130
    assert "run the same command again" in capsys.readouterr().err and closed == [0]
    assert reached == ["a token"] * (when != "while the engine starts")


def test_a_manifest_of_before_there_was_a_choice_is_gone_on_with(script, problems, tmp_path, capsys):
    output = tmp_path / "live.jsonl"
    command = [*OPTIONS["deepprune"], "--problems", problems, "--output", output]
    assert script(*command) == 0
    path = tmp_path / "live.manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["settings"]["method"]
    jsonl.write_json(path, manifest)
    assert script(*command) == 0 and "3 done before, 0 to answer" in capsys.readouterr().out
    assert script("--method", "esc", "--problems", problems, "--output", output) == 2
    assert "method: 'deepprune' there, 'esc' now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--method", "adaptive", "--judge-model", "x", "--k2", "3"], "adaptive has no use for --judge-model, --k2 "),
        (["--method", "esc", "--adaptive-batch", "3"], "esc has no use for --adaptive-batch "),
        (["--judge", "random", "--esc-window", "3"], "deepprune has no use for --esc-window "),
        (["--method", "adaptive", "--adaptive-batch", "0"], "--adaptive-batch should be at least 1, found 0"),
    ],
)
def test_settings_of_other_methods_are_refused_in_one_line(script, capsys, options, names):
    assert script("--question", "What is 2 + 2?", *options) == 2
    error = capsys.readouterr().err
    assert names in error and len(error.strip().splitlines()) == 1


def test_a_recipe_may_hold_settings_of_several_methods(script, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("live:\n  k2: 4\n  truncation_k: 2\n  adaptive_batch: 2\n  method: adaptive\n")
    assert script("--config", recipe, "--question", "What is 2 + 2?") == 0
    printed = capsys.readouterr().out
    assert f"{recipe}: the method adaptive has no use for k2, truncation_k\n" in printed
    assert "answer: 4" in printed and "judge:" not in printed and "clusters" not in printed


def test_a_judged_method_that_does_not_cluster_names_no_clusters(script, smol, capsys):
    """And that a judge has no calibration is said once."""
    words = "--question x --method posterior --truncation-k 2 --judge-model".split()
    with mock.patch.object(live_setup, "open_judge", lambda settings: Noisy()):
        assert script(*words, smol) == 0
    out, err = capsys.readouterr()
    assert "vote of " in out and "clusters" not in out and err.count("no judge_calibration.json beside it") == 1


def test_a_stages_settings_are_the_methods():
    """By name, for every field of every method; the defaults are theirs."""
    for method, kind in METHODS.items():
        assert live_options.options(method, live_setup.LivePruneSettings()) == (
            DeepPruneSettings(ClusterSettings(asks="needed"), FinishSettings())
            if method == "deepprune"
            else PosteriorSettings(calibration=SILENT)
            if method == "posterior"
            else kind.settings()
        )
    words = "--adaptive-batch 3 --adaptive-rolling --tau 0.3 --finish staged --method adaptive".split()
    settings = config.parse(live_setup.LivePruneSettings, "live", "", ["--reasoner", SMOL, *words])
    assert live_options.options("adaptive", settings) == AdaptiveSettings(batch=3, rolling=True)
    pruning = live_options.options("deepprune", settings)
    assert (pruning.cluster.tau, pruning.finish.rule) == (0.3, "staged")


def test_the_report_names_the_method(script, problems, tmp_path):
    output = tmp_path / "live.jsonl"
    assert script("--method", "adaptive", "--problems", problems, "--output", output) == 0
    done = run_stage(
        *("scripts/06_report.py", "--run", "mine", "--problems", problems, "--traces", tmp_path / "live.traces.jsonl"),
        *("--pruning", output, "--reasoner-parameters", "1.0e+9", "--output", tmp_path / "report"),
    )
    assert done.returncode == 0 and "adaptive: accuracy" in done.stdout, done.stdout + done.stderr
    assert "| live, adaptive | " in (tmp_path / "report" / "report.md").read_text()

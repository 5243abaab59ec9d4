"""The GPU check sees a fault: a wrong loss, NaN, swapped labels, a dropped token id, an engine that is not there."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import gpu_check as check
import gpu_check_sample
import gpu_check_stages as stages
import pytest
from conftest import ROOT, load_script

from deepprune.base import config, jsonl, processes, records
from deepprune.evaluate import device_check
from deepprune.evaluate.device_check import FAIL, LEFT_OUT, NOT_RUN, PASS, Line
from deepprune.judges.training.recipe import Recipe

CPU = json.loads((ROOT / "benchmarks" / "gpu_check_cpu.json").read_text())


def failed(lines):
    return [line.compared for line in lines if line.result == FAIL]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_losses_that_are_the_cpus_pass_and_wrong_ones_fail(kind):
    cpu, norms = CPU["losses"][kind], [1.0] * 40
    for limits in stages.LOSS_LIMITS.values():

        def lines(here, gradients=norms, limits=limits):
            return device_check.losses("train", here, gradients, 40, cpu, limits)

        assert failed(lines([x * (1 + limits.first / 2) for x in cpu])) == []
        moved = [x + limits.last / 2 * (1 if i % 2 else -1) for i, x in enumerate(cpu)]
        assert failed(lines([*cpu[:2], *moved[2:]])) == [], "as rounding does"
        assert len(failed(lines([x * (1 + 2 * limits.first) for x in cpu]))) >= 1  # a loss that is a little off
        assert len(failed(lines([*cpu[:2], *(x + 2 * limits.last for x in cpu[2:])]))) == 1, "less is learned"
        assert len(failed(lines(cpu[:1] * 40))) == 2, "nothing is learned"
        assert len(failed(lines([2 * x for x in cpu]))) == 2, "a batch counted twice"
        assert len(failed(lines(cpu[:39]))) == 2, "a step is missing"
        assert failed(lines([])), "nothing was trained"
        assert len(failed(lines([*cpu[:8], math.nan, *cpu[9:]]))) == 1
        assert len(failed(lines([*cpu[:28], math.nan, *cpu[29:]]))) == 2, "a line of its own, and the comparison"
        assert len(failed(lines(cpu, [1.0] * 8 + [math.nan] * 32))) == 1
        assert len(failed(lines(cpu, [1.0] * 8 + [0.0] * 32))) == 1


def test_scores_that_are_the_cpus_pass_and_swapped_labels_fail():
    cpu = CPU["p_same"]
    assert len(cpu) == stages.PAIRS
    for limit in stages.SCORE_LIMITS.values():

        def lines(here, limit=limit):
            return device_check.scores("scores", here, cpu, limit, "the CPU's")

        assert failed(lines({i: p + limit / 2 for i, p in cpu.items()})) == []
        assert len(failed(lines({i: 1 - p for i, p in cpu.items()}))) == 1
        assert len(failed(lines(cpu | {min(cpu): cpu[min(cpu)] + 2 * limit}))) == 1, "one pair is enough"
        assert len(failed(lines({i: cpu[i] for i in list(cpu)[1:]}))) == 1, "a pair without a score"
        assert len(failed(lines(cpu | {min(cpu): math.nan}))) == 1
        assert len(failed(lines({}))) == 2


def test_the_cpus_scores_are_those_of_the_repository():
    """Made by transformers for the check; the study's were made by vLLM, months before."""
    study = records.read(
        records.PairScore, ROOT / "DeepPrune_data/study/miniature/scores_DeepPrune-Judge-mini.jsonl.gz"
    )
    known = {s.pair_id: s.p_same for s in study}
    assert max(abs(p - known[i]) for i, p in CPU["p_same"].items()) < 0.002


def test_token_ids_are_held_against_counts_texts_and_the_counter():
    words = {1: "so", 2: " it", 3: " is", 4: " 7"}
    ids = {"p/0": [1, 2, 3], "p/1": [1, 2, 3, 4, 9]}  # 9 ends a trace, and has no text
    traces = {"p/0": (3, "so it is"), "p/1": (5, "so it is 7")}

    def lines(traces=traces, ids=ids, counted=8):
        def decode(tokens):
            return "".join(words.get(token, "") for token in tokens)

        return device_check.tokens("sample", traces, ids, counted, decode)

    assert failed(lines()) == []
    assert len(failed(lines(ids=ids | {"p/1": [1, 2, 4, 9]}))) == 2, "a dropped token id"
    assert len(failed(lines(ids={"p/0": ids["p/0"]}))) == 2, "a trace without token ids"
    assert len(failed(lines(ids=ids | {"p/1": [1, 2, 3, 3, 9]}))) == 1, "a wrong one"
    assert len(failed(lines(traces=traces | {"p/0": (2, "so it is")}))) == 2, "a wrong count"
    assert len(failed(lines(counted=9))) == len(failed(lines(counted=None))) == 1


def test_live_counts_are_held_against_the_engines():
    good = {"answered": 2, "questions": 2, "recorded": 900, "traced": 900, "counted": 900, "left": 0, "alive": 0}
    assert failed(device_check.live("live", **good)) == []
    for name, value in [("answered", 1), ("recorded", 899), ("traced", 899), ("left", 1), ("left", None), ("alive", 1)]:
        assert len(failed(device_check.live("live", **good | {name: value}))) == 1, name
    assert len(failed(device_check.live("live", **good | {"counted": None}))) == 2


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The command with made-up checks; run(*arguments) -> (exit code, the checks that ran)."""
    runs = []

    def good(run, name):
        runs.append(name)
        return [Line(name, "one and one", "2", "2", PASS)], {
            "losses": CPU["losses"]["lora"],
            "shown": {"speed": "1 row/s"},
        }

    def breaks(run, name):
        runs.append(name)
        raise processes.ProgramFailed("error: the engine | is gone")

    def odd(run, name):
        runs.append(name)
        return [Line(name, "one and one", "3", "2", FAIL)], {}

    checks = {"train-lora-auto": (good, "llamafactory"), "live": (breaks, "vllm"), "sample": (odd, None)}
    monkeypatch.setattr(stages, "CHECKS", checks | {"last": (good, None)})
    monkeypatch.setattr(check.runtime, "has_gpu", lambda: False)

    def run(*arguments):
        runs.clear()
        monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(tmp_path / "out"), *arguments])
        try:
            check.main()
        except SystemExit as end:
            return end.code, list(runs)
        return 0, list(runs)

    return run


def test_what_breaks_is_fail_and_the_others_go_on(script, tmp_path, capsys):
    assert script() == (1, ["train-lora-auto", "live", "sample", "last"])
    out = capsys.readouterr().out
    assert "this machine has no NVIDIA GPU" in out.splitlines()[0]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [line["result"] for line in report["lines"]] == [PASS, FAIL, FAIL, PASS]
    assert report["lines"][1]["figure"] == "error: the engine | is gone"
    page = (tmp_path / "out" / "report.md").read_text()
    assert "2 PASS, 2 FAIL" in page and "| error: the engine \\| is gone |" in page and "![losses](losses.png)" in page
    assert (tmp_path / "out" / "losses.png").is_file()
    assert len((tmp_path / "out" / "checks.csv").read_text().splitlines()) == 5

    assert script() == (1, ["live", "sample"])  # what passed is kept, what failed is tried again
    assert script("--only", "last") == (1, [])  # and stays in the report
    assert script("--overwrite", "--only", "last") == (1, ["last"])


def test_what_is_left_out_never_passes(script, tmp_path):
    assert script("--without", "vllm", "llamafactory", "--only", "last", "live") == (0, ["last"])
    lines = json.loads((tmp_path / "out" / "report.json").read_text())["lines"]
    assert {line["check"]: line["result"] for line in lines} == {
        "train-lora-auto": LEFT_OUT,
        "live": LEFT_OUT,
        "sample": NOT_RUN,
        "last": PASS,
    }
    assert script("--only", "nothing") == (2, [])


def test_a_missing_engine_fails(script, tmp_path, monkeypatch):
    """A stage that ends in an import error: the check's line says which."""
    stage = tmp_path / "stage.py"
    stage.write_text("import an_engine_that_is_not_here\n")
    monkeypatch.setitem(stages.CHECKS, "live", (lambda run, name: run.stage(name, str(stage)), "vllm"))
    assert script("--only", "live") == (1, [])
    (line,) = (x for x in json.loads((tmp_path / "out" / "report.json").read_text())["lines"] if x["check"] == "live")
    assert line["result"] == FAIL
    assert line["figure"].startswith("ModuleNotFoundError: No module named 'an_engine_that_is_not_here' (")


def runs(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_stage_that_leaves_a_process_or_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.5)
    run = stages.Run(tmp_path, False, "float32", None, limit_seconds=60)
    stage = tmp_path / "stage.py"
    stage.write_text("import subprocess\nprint(subprocess.Popen(['sleep', '100']).pid, flush=True)\n")
    done, memory = run.stage("live", stage, max_tokens=5)
    assert done.alive == 1 and memory.keys() == {"host memory"}  # told in the report
    assert not runs(int(done.output.split()[-1]))  # and ended
    assert f"{stage} --max-tokens 5" in (tmp_path / "logs/live.txt").read_text().splitlines()[0]
    stage.write_text("import sys\nprint('error: no such thing')\nprint('and more')\nsys.exit(2)\n")
    with pytest.raises(processes.ProgramFailed, match="^error: no such thing .*ended with 2"):
        run.stage("live", stage)
    run.limit_seconds = 1
    stage.write_text("import time\ntime.sleep(100)\n")
    with pytest.raises(processes.ProgramFailed, match="took longer than 1 s"):
        run.stage("live", stage)


def test_figures_show_what_is_compared(tmp_path):
    """Two panels each; the limits as bands, also where a check has not run or ended early."""
    losses = {"train-lora-auto": {"losses": CPU["losses"]["lora"]}, "train-full-eager": {"losses": [2.0, 1.0]}}
    figure = device_check.draw_losses(losses, CPU["losses"], 0.15, "a card")
    assert [axis.get_title() for axis in figure.axes] == ["LoRA", "all weights"]
    labels = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]
    assert labels[0][0] == "automatic attention" and labels[1][0] == "eager attention"
    p_same = {"scores-vllm": {"p_same": {"float32": CPU["p_same"], "bfloat16": {min(CPU["p_same"]): 0.5}}}}
    figure = device_check.draw_scores(p_same, CPU["p_same"], stages.SCORE_LIMITS, "a card")
    labels = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in figure.axes]
    assert labels == [["vllm (300 pairs)", "limit: ± 0.02"], ["vllm (1 pairs)", "limit: ± 0.08"]]


SETTINGS = {
    "01_sample_traces.py": ("SampleSettings", "sample"),
    "live_pruning.py": ("LivePruneSettings", "live"),
    "test_model_performance_parallel.py": ("EvaluateSettings", "evaluate"),
}


@pytest.mark.parametrize("name", stages.CHECKS)
def test_the_stages_understand_what_a_check_asks(name, tmp_path, monkeypatch, smol):
    """The command of each check, up to where its stage would run."""

    def run_program(command, *_):
        commands.append([str(word) for word in command[1:]])
        raise processes.ProgramFailed("as far as a test goes")

    commands = []
    monkeypatch.setattr(processes, "run", run_program)
    monkeypatch.setattr(stages, "starting_adapter", lambda run: tmp_path / "adapter")
    run = stages.Run(tmp_path, False, "float32", CPU, 60)
    stages.prepare(run, Path(smol))
    with pytest.raises(processes.ProgramFailed):
        stages.CHECKS[name][0](run, name)
    ((script, *words),) = commands
    script = Path(script).relative_to(ROOT)
    if name.startswith("train"):
        settings = Recipe.read(ROOT / words[0], words[1:]).args
        assert settings["use_cpu"] is True and settings["bf16"] is False and settings["save_strategy"] == "no"
        assert settings["max_steps"] == 40 and settings["flash_attn"] in ("auto", "disabled")
        assert ("adapter_name_or_path" in settings) == ("lora" in name)
    else:
        if script.name == "gpu_check_sample.py":
            script, words = Path("scripts/01_sample_traces.py"), words[1:]
        kind, section = SETTINGS[script.name]
        settings = config.parse(getattr(load_script(str(script)), kind), section, "", words)
        assert settings.overwrite and settings.output.startswith(str(tmp_path))


def test_token_ids_are_written_as_the_stage_gets_them(tmp_path):
    def request(name, ids):
        return name, SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)])

    outputs = [request("p/0", (5, 6)), request("p/1", [7])]
    run = gpu_check_sample.keeping(lambda llm, requests, window: iter(outputs), str(tmp_path / "ids.jsonl"))
    assert list(run("llm", [], window=3)) == outputs
    assert [row for _, row in jsonl.read(tmp_path / "ids.jsonl")] == [
        {"request": "p/0", "token_ids": [5, 6]},
        {"request": "p/1", "token_ids": [7]},
    ]

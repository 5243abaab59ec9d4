"""Every method on a real engine: its counter is ours, nothing runs on, and what was recorded decides alike."""

import json

import pytest
from conftest import run_stage

SCRIPT = """
import asyncio, dataclasses, json, sys
from deepprune import judges
from deepprune.base import runtime
from deepprune.data import answers
from deepprune.data.confidence import Windows
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import EngineReasoner
from deepprune.prune.answerer import Answerer
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.live_run import until_idle
from deepprune.prune.live_traces import LiveSettings
from deepprune.prune.methods import METHODS, Kind
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.consensus import ConsensusSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.protocol import PREFIX, Generate
from deepprune.prune.replay import Recorded, play, rerun
from deepprune.base.records import Problem

N = 5
PROBLEM = Problem.new("test", "What is 2 + 2? Reply with \\\\boxed{4}.", "4")
LONG = Problem.new("test", "Count from one to five hundred, in words.", "500")

@dataclasses.dataclass(frozen=True)
class HastySettings:
    pass

def hasty(count, settings: HastySettings, key=""):
    # returns as soon as one trace has eight tokens: the others have hundreds to go
    yield [Generate((0,), PREFIX), Generate(tuple(range(1, count)))]
    return {}

METHODS["hasty"] = Kind("__main__:hasty")
CLUSTER = ClusterSettings(k1=2)
METHODS_TRIED = [
    ("consensus", ConsensusSettings(early=True)),
    ("adaptive", AdaptiveSettings(0.9, 4, early=True)),
    ("adaptive", AdaptiveSettings(0.0, 6, rolling=True)),
    ("esc", EscSettings(3, early=True)),
    ("deepconf", DeepConfSettings(0.5, 3, 0.6, 3)),
    ("deepprune", DeepPruneSettings(CLUSTER, FinishSettings("paper", 3, 3), True)),
    ("deepprune", DeepPruneSettings(CLUSTER, FinishSettings("staged", 4, 4, batch=2, start=3), True)),
    ("posterior", PosteriorSettings(3, 1, 1, price=0.0)),
    ("hasty", HastySettings()),
]

async def one(reasoner, judge, name, options):
    problem, max_tokens = (LONG, 450) if name == "hasty" else (PROBLEM, 40)
    sampling = Sampling(temperature=0.9, max_tokens=max_tokens)
    how = LiveSettings(N, Truncation("tokens", 8), name, options, sampling, "", windows=Windows(5, 16, 4))
    before, told = await reasoner.generated(), []
    answerer = Answerer.of(reasoner, judge, how, in_flight=5, questions=1)
    question, pruning = await answerer.run(problem, tell=told.append)
    running = await reasoner.running()
    counted = await reasoner.generated() - before
    await asyncio.sleep(0.3)
    later = await reasoner.generated() - before
    traces = [question.traces.record(trace) for trace in question.traces.arrived]
    rows = sorted(traces, key=lambda trace: trace.sample_index)
    row = {"name": name, "options": str(options), "running": running, "counted": counted, "later": later,
           "tokens": pruning.tokens, "answer": pruning.answer, "states": [t.state for t in question.traces.all],
           "recorded": sum(t.n_tokens for t in traces), "started": sum(e["event"] == "started" for e in told),
           "votes": question.votes, "again": rerun(question._method(), question.log), "played": None}
    if not METHODS[name].needs_judge and "stopped" not in row["states"]:
        labels = answers.classes([trace.answer for trace in rows])
        recorded = Recorded(labels, [t.n_tokens for t in rows], confidences=[t.confidence for t in rows])
        played = play(METHODS[name].start(len(rows), options, problem.problem_id), recorded)
        answer = next((t.answer for t, x in zip(rows, labels) if x == played.answer and x is not None), None)
        row["played"] = answer == pruning.answer or answers.same(answer, pruning.answer)
    return row

async def main(model, out):
    reasoner = EngineReasoner(model, max_model_len=512, max_num_seqs=8, dtype="float32")
    judge = judges.open_judge("random")
    await reasoner.open()
    rows = [await one(reasoner, judge, name, options) for name, options in METHODS_TRIED]
    await reasoner.close()
    json.dump(rows, open(out, "w"))

if __name__ == "__main__":
    runtime.ensure()
    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def rows(smol, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live-engine")
    script, out = folder / "live.py", folder / "rows.json"
    script.write_text(SCRIPT)
    done = run_stage(script, smol, out)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


def test_the_engines_counter_is_ours_and_stands_still_after_the_answer(rows):
    """Also of requests that were cancelled in flight, which there are."""
    for row in rows:
        tokens = row["tokens"]
        assert row["counted"] == row["later"] == tokens["total"] == row["recorded"], row
        assert row["running"] == 0 and row["started"] == len(row["states"]) - row["states"].count("waiting"), row
        assert tokens["total"] == tokens["prefix"] + tokens["rest"] + tokens.get("stopped", 0)
    hasty = rows[-1]
    assert hasty["tokens"]["stopped"] > 0 and "stopped" in hasty["states"], hasty


def test_what_was_recorded_decides_alike(rows):
    for row in rows:
        assert row["votes"] == row["again"] and row["played"] in (True, None), row


def test_what_a_resumed_trace_sends_again_is_in_the_prefix_cache(rows):
    for row in rows:
        resumed, cached = (row["tokens"].get(name, 0) for name in ("resumed", "resumed_cached"))
        assert (
            0 <= cached <= resumed
            and (cached > 0) == (resumed > 0)
            and (row["name"] in ("deepprune", "posterior") or not resumed)
        )

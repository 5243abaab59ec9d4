"""Every method live, with a made-up reasoner: what is generated, stopped and counted; a replay decides alike."""

import asyncio
import contextlib
import threading

import pytest
from conftest import make_problem
from test_live import PROBLEM, MadeUp, Noisy, texts

from deepprune.data import answers
from deepprune.data.answers import equality
from deepprune.data.answers.math_worker import Outcome, Values
from deepprune.data.confidence import Windows
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.judges import Request
from deepprune.prune import clustering, live_flights
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import RULES, FinishSettings
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_judging import JudgeQueue
from deepprune.prune.live_traces import LiveSettings
from deepprune.prune.methods import METHODS
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.consensus import ConsensusSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings
from deepprune.prune.methods.esc import EscSettings
from deepprune.prune.methods.posterior import PosteriorSettings
from deepprune.prune.protocol import END, PREFIX, Ended, Generate, Held, Stop
from deepprune.prune.replay import Recorded, replay, rerun

CUT, N, WINDOWS = Truncation("words", 2), 16, Windows(1, 4, 2)
IN_WAVES = [
    ("consensus", ConsensusSettings()),
    ("adaptive", AdaptiveSettings(batch=4)),
    ("esc", EscSettings(4)),
    ("deepconf", DeepConfSettings(0.9, 6)),
    *(("deepprune", DeepPruneSettings(ClusterSettings(k1=3), FinishSettings(rule, 4, 4, start=4))) for rule in RULES),
    ("posterior", PosteriorSettings(6, 2, 2, 0.95, price=0.0)),
]
AS_THEY_COME = [("consensus", ConsensusSettings(early=True)), ("adaptive", AdaptiveSettings(0.9, 4, rolling=True))]


def run(name, options, reasoner, max_tokens=200, slots=8):
    """(question, its Pruning record, its whole traces) and that nothing runs or is generated afterwards."""
    how = LiveSettings(N, CUT, name, options, Sampling(max_tokens=max_tokens), " suffix", windows=WINDOWS)
    whole = []

    async def main():
        judge = JudgeQueue(Noisy()) if METHODS[name].needs_judge else None
        question = LiveQuestion(PROBLEM, reasoner, judge, how, asyncio.Semaphore(slots), None, keep=whole.append)
        pruning = await question.run()
        assert await reasoner.running() == 0
        generated = reasoner.count
        await asyncio.sleep(0.02)
        assert reasoner.count == generated
        return question, pruning

    return *asyncio.run(main()), whole


def recorded(question):
    """The live run's traces, as they are in its file, and the scores of their prefixes by the same judge."""
    rows = sorted((question.traces.record(t) for t in question.traces.arrived), key=lambda t: t.sample_index)
    prefixes = [CUT.cut(row.text) for row in rows]
    lengths = [row.n_tokens for row in rows]
    held = {question.traces.record(t).trace_id: t.prefix_tokens for t in question.traces.arrived}
    labels, confidences = answers.classes([row.answer for row in rows]), [row.confidence for row in rows]
    traces = Recorded(labels, lengths, [held[row.trace_id] for row in rows], confidences)

    def score(batch):
        return [s.p_same for s in Noisy().score([Request("", prefixes[a], prefixes[b], "", "") for _, a, b in batch])]

    return rows, traces, score


@pytest.mark.parametrize(("name", "options"), IN_WAVES + AS_THEY_COME)
def test_every_token_is_counted_and_nothing_runs_after_the_answer(name, options):
    reasoner = MadeUp(texts(N))
    question, pruning, whole = run(name, options, reasoner)
    tokens = pruning.tokens
    assert tokens["total"] == reasoner.count == tokens["prefix"] + tokens["rest"] + tokens.get("stopped", 0)
    assert 0 < tokens["sequential"] <= tokens["total"] and pruning.answer == "4" and pruning.correct
    assert {trace.trace_id for trace in whole} >= set(pruning.finished)
    assert all(trace.text in texts(N) and trace.finish_reason == "stop" for trace in whole)
    assert rerun(question._method(), question.log) == question.votes
    if name == "posterior":
        assert pruning.judge_calls > 0 and pruning.settings["m0"] == 6 and tokens["prefix"] > 0
    elif name != "deepprune":
        assert pruning.judge == "none" and pruning.judge_calls == 0 and pruning.settings["method"] == name
        assert tokens["prefix"] == 0 and [t.sample_index for t in whole] == [
            question_number(question, t) for t in whole
        ]


def question_number(question, trace):
    return next(t.number for t in question.traces.all if t.record is trace)


@pytest.mark.parametrize(("name", "options"), [*IN_WAVES, ("posterior", PosteriorSettings(6, 2, 2, 0.95))])
def test_the_recorded_traces_of_a_live_run_are_decided_alike(name, options):
    question, pruning, _ = run(name, options, MadeUp(texts(N)))
    rows, traces, score = recorded(question)
    method = METHODS[name].start(len(rows), options, PROBLEM.problem_id)
    if name == "deepprune" and options.finish.rule in ("paper", "weighted"):
        assert len(rows) == N
    played = clustering.lockstep({"q": replay(method, traces)}, score)["q"]
    assert {rows[t].trace_id for t in played.finished} == set(pruning.finished)
    assert next(row.answer for row, label in zip(rows, traces.labels, strict=True) if label == played.answer) == "4"
    assert (played.tokens, played.sequential) == (pruning.tokens["total"], pruning.tokens["sequential"])


class Waiting(MadeUp):
    """Traces 1 and 2 do not get past their fourth word before they are stopped."""

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        words = []
        async with contextlib.aclosing(super().stream(prompt, sampling, max_tokens, stop, top)) as chunks:
            async for chunk in chunks:
                words.append(chunk.text)
                if words[0] in ("T1", "T2") and len(words) == 4:
                    await stop.wait()
                yield chunk


@pytest.mark.parametrize(("name", "options"), AS_THEY_COME)
def test_what_is_in_flight_is_stopped_when_the_vote_is_decided(name, options):
    question, pruning, whole = run(name, options, Waiting(texts(N), seed=3), slots=N)
    stopped = [t for t in question.traces.all if t.state == "stopped"]
    assert {1, 2} <= {t.number for t in stopped} and pruning.tokens["stopped"] == sum(len(t.token_ids) for t in stopped)
    assert [len(question.traces.all[number].token_ids) for number in (1, 2)] == [4, 4]  # at the next token
    assert not set(stopped) & set(question.traces.finished()) and len(whole) >= len(question.traces.ended)
    for trace in stopped:
        record = question.traces.record(trace)
        assert record.finish_reason == "abort" and record.answer is None and record.n_tokens >= len(trace.token_ids)


def test_deepconf_stops_a_trace_whose_confidence_falls():
    question, pruning, _ = run("deepconf", DeepConfSettings(0.5, 6), MadeUp(texts(N)), slots=N)
    unsure = {
        t.number for t in question.traces.all if "{4}" not in next(x for x in texts(N) if x.startswith(f"T{t.number} "))
    }
    stopped = {t.number for t in question.traces.all if t.state == "stopped"}
    assert stopped == {number for number in unsure if number >= 6} and pruning.answer == "4"
    assert all(len(t.token_ids) in (4, 5, 6) for t in question.traces.all if t.number in stopped)
    assert pruning.tokens["stopped"] == sum(len(question.traces.all[number].token_ids) for number in stopped)


def test_a_request_that_gives_no_token_any_more_is_cancelled(monkeypatch):
    class Stuck(MadeUp):
        """Its last trace never gets past its third word."""

        async def stream(self, *request, **more):
            words = []
            async with contextlib.aclosing(super().stream(*request, **more)) as chunks:
                async for chunk in chunks:
                    words.append(chunk.text)
                    if words[0] == f"T{N - 1}" and len(words) == 4:
                        await asyncio.Event().wait()
                    yield chunk

    monkeypatch.setattr(live_flights, "SECONDS_TO_STOP", 0.05)
    question, pruning, _ = run("consensus", ConsensusSettings(early=True), Stuck(texts(N)), slots=N)
    last = question.traces.all[N - 1]
    assert pruning.answer == "4" and last.state == "stopped" and pruning.tokens["stopped"] >= len(last.token_ids) == 3


def test_traces_that_reach_the_limit_have_no_answer():
    question, pruning, whole = run("adaptive", AdaptiveSettings(batch=8), MadeUp(texts(N)), max_tokens=6)
    assert pruning.answer is None and pruning.correct is None and pruning.tokens["total"] == 6 * N
    assert len(whole) == N and {t.finish_reason for t in whole} == {"length"}


def test_a_stopped_trace_goes_on_and_one_in_flight_gets_a_new_goal(monkeypatch):
    def moody(count, settings, key="", clusters=None):
        held = yield [Generate((0, 1, 2), PREFIX)]
        first = held.trace
        others = tuple({0, 1, 2} - {first})
        event = yield [Stop(others[:1]), Generate(others[1:], END), Generate((first,), END)]
        ended = [event.trace]
        commands = [Generate(others[:1], PREFIX)]
        while len(ended) < 3:
            event = yield commands
            commands = []
            if isinstance(event, Ended):
                ended.append(event.trace)
            elif isinstance(event, Held):
                commands = [Generate((event.trace,), END)]
        return dict.fromkeys(sorted(ended), 1.0)

    reasoner = MadeUp(texts(N))
    monkeypatch.setattr(LiveQuestion, "_method", lambda self: moody(3, None))
    question, pruning, whole = run("deepprune", DeepPruneSettings(), reasoner)
    assert pruning.tokens["total"] == reasoner.count and len(whole) == len(pruning.finished) == 3
    assert {t.text for t in whole} <= set(texts(N)) and "stopped" not in pruning.tokens


def test_each_answer_is_compared_once_and_the_other_questions_do_not_wait(monkeypatch):
    """A comparison that takes until another question is answered: neither the event loop nor that question waits."""
    answered, compared = threading.Event(), []

    class Patient:
        def values(self, a, seconds):
            return Values(None)

        def same(self, a, b, seconds):
            compared.append((a, b))
            assert answered.wait(60)
            return Outcome(False)

    monkeypatch.setattr(equality, "_worker", Patient())
    for name in ("_cache", "_values"):
        monkeypatch.setattr(equality, name, {})
    odd = [f"T{i} a so thus \\boxed{{x_{i % 2}+{i % 4}}}" for i in range(N)]

    async def answer(stated, problem):
        how = LiveSettings(N, CUT, "consensus", None, Sampling(max_tokens=200), " suffix")
        question = LiveQuestion(problem, MadeUp(stated), None, how, asyncio.Semaphore(8), None)
        await question.run()
        return question

    async def main():
        waiting = asyncio.create_task(answer(odd, make_problem(3, "7")))
        while not compared:
            await asyncio.sleep(0.001)
        question = await answer([f"T{i} a so thus \\boxed{{{i}}}" for i in range(N)], make_problem(4, "8"))
        answered.set()
        return question, await waiting

    plain, patient = asyncio.run(main())
    assert len(set(plain.traces.ended.values())) == N and set(patient.traces.ended.values()) == set(range(4))
    assert len(compared) == len(set(compared)) == 6 + 4  # the four answers with each other, and each with the right one

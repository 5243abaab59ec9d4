"""Questions answered from Python: the example of docs/live.md, several at once, and what is refused or cancelled."""

import asyncio
import contextlib
import itertools
import re
import threading

import pytest
from conftest import ROOT
from fake_server import FakeServer
from test_live import MadeUp, Noisy, texts

from deepprune import Answerer
from deepprune.base.errors import UserError
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.engines import reasoners
from deepprune.engines.servers import ServerSettings
from deepprune.judges import Request
from deepprune.prune import live_flights
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.live_judging import JudgeLost, JudgeQueue
from deepprune.prune.live_slots import Slots
from deepprune.prune.live_traces import LiveTraces
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepconf import DeepConfSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings


def test_the_pages_example_runs(monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "live.md").read_text(), re.DOTALL)
    reasoner = MadeUp(texts(64))
    monkeypatch.setattr(reasoners, "ServerReasoner", lambda url, model: reasoner)
    exec(example, {"__name__": "__main__"})
    answer, votes = re.match(r"(\S+) \{(.*?)\}", capsys.readouterr().out).groups()
    assert answer == "4" and votes.startswith("'4': ") and reasoner.open_now == 0


def test_an_answer_says_what_it_cost_and_how_sure_it_is():
    reasoner, judge = MadeUp(texts(16)), Noisy()
    options = DeepPruneSettings(ClusterSettings(k1=3), FinishSettings("staged", 8, 8, start=8))

    async def main():
        cut, sampling = Truncation("words", 2), Sampling(max_tokens=200)
        answerer = Answerer(
            reasoner, judge, method="deepprune", options=options, n=16, truncation=cut, sampling=sampling
        )
        async with answerer:
            return await answerer.answer("What is 2 + 2?")

    result = asyncio.run(main())
    assert result.answer == "4" == next(iter(result.votes)) and sum(result.votes.values()) == pytest.approx(1)
    assert result.tokens["total"] == reasoner.count and result.judge_calls == judge.asked > 0 and result.seconds > 0
    assert 0.5 <= result.confidence <= 1 and set(result.states) <= {"finished", "pruned"}
    assert len(result.traces) == len(result.states) and result.judge_tokens == 50 * judge.asked


def test_what_happens_is_told_while_it_does_and_what_breaks_is_raised():
    async def main(reasoner, judge=None, **more):
        told = []
        async with Answerer(reasoner, judge, n=16, **more) as answerer:
            return (await answerer.answer("What is 2 + 2?", tell=told.append)), told

    result, told = asyncio.run(main(MadeUp(texts(16)), options=AdaptiveSettings(batch=4, rolling=True)))
    kinds = [event["event"] for event in told]
    assert kinds[:4] == ["started"] * 4 and kinds[-1] == "answered" and told[-1]["answer"] == result.answer
    assert 0 < kinds.count("finished") <= result.states.count("finished")  # one may end while the vote is decided
    ended = {e["trace"]: e["tokens"] for e in told if e["event"] == "finished"}
    assert {t.n_tokens for t in result.traces} >= set(ended.values())
    broken = MadeUp(texts(16), fail_at=40)
    with pytest.raises(reasoners.ReasonerLost, match="the engine died"):
        asyncio.run(main(broken))
    assert broken.open_now == 0
    with pytest.raises(JudgeLost, match="noisy failed"):
        asyncio.run(main(MadeUp(texts(16)), Noisy(fail_after=2), method="deepprune", truncation=Truncation("words", 2)))


def test_a_reasoner_that_does_not_open_leaves_no_judge_open():
    class Shut(MadeUp):
        async def open(self):
            raise UserError("nobody answers there")

    judge, closed = Noisy(), []
    judge.close = lambda: closed.append(True)

    async def main():
        async with Answerer(Shut([]), judge):
            pass

    with pytest.raises(UserError, match="nobody answers"):
        asyncio.run(main())
    assert closed == [True]


def test_many_questions_share_the_reasoner_and_one_that_is_cancelled_leaves_nothing():
    async def main():
        reasoner = MadeUp([text for text in texts(80) if "{4}" in text])
        async with Answerer(reasoner, options=AdaptiveSettings(batch=4, rolling=True), n=8, questions=2) as answerer:
            results = await answerer.answer_many(["one", "two", "three"])
            assert reasoner.open_now == 0 and sum(r.tokens["total"] for r in results) == reasoner.count
            waiting = asyncio.create_task(answerer.answer("four"))
            while not reasoner.open_now:
                await asyncio.sleep(0.001)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert reasoner.open_now == 0
        return results

    assert [r.answer for r in asyncio.run(main())] == ["4"] * 3


def test_who_is_cancelled_twice_leaves_nothing_either(monkeypatch):
    """The second time while its requests, which give no token any more, are waited for."""

    class Stuck(MadeUp):
        async def stream(self, *request, **more):
            async with contextlib.aclosing(super().stream(*request, **more)) as chunks:
                async for chunk in chunks:
                    yield chunk
                    await asyncio.Event().wait()

    monkeypatch.setattr(live_flights, "SECONDS_TO_STOP", 600)

    async def main():
        reasoner = Stuck(texts(16))
        async with Answerer(reasoner, method="consensus", n=4) as answerer:
            asking = asyncio.create_task(answerer.answer("one"))
            while reasoner.count < 4:
                await asyncio.sleep(0.001)
            for _ in range(2):
                asking.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asking, 60)
            assert reasoner.open_now == 0 and answerer.slots.free == 64

    asyncio.run(main())


def test_every_token_is_told_of_a_question_that_is_cancelled(monkeypatch):
    """Here while a trace that has ended is read and graded."""
    reading, read_on, record = threading.Event(), threading.Event(), LiveTraces.record

    def slowly(self, trace):
        reading.set()
        assert read_on.wait(60)
        return record(self, trace)

    monkeypatch.setattr(LiveTraces, "record", slowly)

    async def main():
        reasoner, told = MadeUp(texts(16)), []
        async with Answerer(reasoner, method="consensus", n=4) as answerer:
            asking = asyncio.create_task(answerer.answer("one", tell=told.append))
            await asyncio.to_thread(reading.wait)
            asking.cancel()
            await asyncio.sleep(0.01)
            read_on.set()
            await asyncio.wait([asking])
            last = {event["trace"]: event["tokens"] for event in told}
            assert asking.cancelled() and reasoner.count == sum(last.values()) > 0

    asyncio.run(main())


def test_a_free_place_goes_to_the_question_with_the_fewest_requests():
    async def main():
        slots, order, leave = Slots(4), [], asyncio.Event()
        one, two, three = (slots.share() for _ in range(3))

        async def request(name, share, until):
            async with share:
                order.append(name)
                await until.wait()

        first = asyncio.Event()
        tasks = [asyncio.create_task(request("one", one, first if i == 0 else leave)) for i in range(9)]
        tasks += [asyncio.create_task(request("two", two, leave)) for _ in range(3)]
        tasks += [asyncio.create_task(request("three", three, leave)) for _ in range(2)]
        await asyncio.sleep(0)
        assert order == ["one"] * 4 and slots.free == 0
        tasks[9].cancel()  # one that waits leaves nothing behind
        await asyncio.sleep(0)
        first.set()
        await asyncio.sleep(0.01)
        assert order == ["one"] * 4 + ["two"] and (one.running, two.running) == (3, 1)
        leave.set()
        await asyncio.wait(tasks)
        assert order[5] == "three" and sorted(order[4:]) == ["one"] * 5 + ["three"] * 2 + ["two"] * 2
        assert slots.free == 4 and not slots.waiting and one.running == two.running == three.running == 0

    asyncio.run(main())


def test_a_request_that_is_cancelled_when_its_turn_comes_gives_its_place_back():
    async def main():
        slots = Slots(1)
        share = slots.share()

        async def request():
            async with share:
                pass

        await share.__aenter__()
        waiting = [asyncio.create_task(request()) for _ in range(2)]
        await asyncio.sleep(0)
        await share.__aexit__()  # the first one's turn, of which it has not heard
        waiting[0].cancel()
        await asyncio.wait(waiting)
        assert waiting[0].cancelled() and not waiting[1].cancelled() and slots.free == 1 and share.running == 0

    asyncio.run(main())


def test_many_questions_do_not_starve_each_other():
    """With one place in the engine and 8 traces each, the second question is asked before the first has its answer."""

    async def main():
        reasoner, told = MadeUp(texts(16)), []
        async with Answerer(reasoner, method="consensus", n=8, in_flight=1, questions=2) as answerer:
            await asyncio.gather(*(answerer.answer(q, tell=told.append) for q in ("one", "two")))
        return [e["problem_id"] for e in told if e["event"] == "started"]

    started = asyncio.run(main())
    assert all(a != b for a, b in itertools.pairwise(started[1:-1]))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="method should be one of consensus, .*, found 'best'"):
        Answerer(MadeUp([]), method="best")
    with pytest.raises(UserError, match="the method 'deepprune' needs a judge"):
        Answerer(MadeUp([]), method="deepprune")
    with pytest.raises(UserError, match="the method 'adaptive' takes a AdaptiveSettings, found DeepPruneSettings"):
        Answerer(MadeUp([]), options=DeepPruneSettings())
    for name, number in (("n", 0), ("n", "8"), ("in_flight", 0), ("questions", 2.5)):
        with pytest.raises(UserError, match=f"{name} should be a whole number of at least 1, found {number!r}"):
            Answerer(MadeUp([]), **{name: number})
    with pytest.raises(UserError, match="answer_type should be one of math, choice, text, found 'number'"):
        asyncio.run(Answerer(MadeUp([])).answer("What is 2 + 2?", answer_type="number"))


def test_it_is_opened_once_and_belongs_to_one_event_loop():
    """Elsewhere a question would wait for ever for what nobody can wake it from."""
    answerer = Answerer(MadeUp(texts(16)), method="consensus", n=2, questions=1)

    async def main():
        async with answerer:
            assert (await answerer.answer("one")).answer == "4"
            with pytest.raises(UserError, match="belongs to the event loop in which it was opened"):
                await asyncio.to_thread(asyncio.run, answerer.answer("two"))
            here = asyncio.get_running_loop()

            def ask():
                return asyncio.run_coroutine_threadsafe(answerer.answer("three"), here).result(60)

            assert (await asyncio.to_thread(ask)).answer is not None

    asyncio.run(main())
    with pytest.raises(UserError, match="is opened once"):
        asyncio.run(main())


def test_a_server_that_is_lost_is_a_reasoner_that_is_lost(smol):
    """Also where it is not one of a fleet."""
    there = FakeServer()

    async def main():
        async with Answerer(reasoners.ServerReasoner(there.url, smol, ServerSettings(retries=0)), n=2) as answerer:
            there.close()
            with pytest.raises(reasoners.ReasonerLost, match="no OpenAI-compatible server answers there"):
                await answerer.answer("What is 2 + 2?")

    asyncio.run(main())


def test_confidence_counts_traces_whatever_their_votes_weigh():
    """Two traces that agree are as sure as two votes: 7/8, by Beta(3, 1)."""

    async def main(method, options):
        reasoner = MadeUp([f"T{i} first so \\boxed{{4}}" for i in range(2)])
        async with Answerer(reasoner, method=method, options=options, n=2) as answerer:
            return await answerer.answer("What is 2 + 2?")

    equal = asyncio.run(main("consensus", None))
    weighted = asyncio.run(main("deepconf", DeepConfSettings(0.9, 1)))
    assert equal.votes == weighted.votes == {"4": 1.0} and len(weighted.traces) == 2
    assert equal.confidence == weighted.confidence == 0.875


def test_the_judge_is_not_asked_what_nobody_waits_for():
    entered, free = threading.Event(), threading.Event()

    class Busy(Noisy):
        def score(self, requests):
            entered.set()
            assert free.wait(60)
            return super().score(requests)

    async def main():
        judge = Busy()
        queue = JudgeQueue(judge)

        def ask(size):
            return asyncio.create_task(queue.score([Request("", "T a", "T b", "x", "y")] * size))

        first = ask(1)
        while not entered.is_set():
            await asyncio.sleep(0.001)
        gone, last = ask(100), ask(2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        free.set()
        return len(await first), len(await last), judge.asked

    assert asyncio.run(main()) == (1, 2, 3)

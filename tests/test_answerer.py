"""Questions answered from Python: the example of docs/live.md, several at once, and what is refused or cancelled."""

import asyncio
import re

import pytest
from conftest import ROOT
from test_live import MadeUp, Noisy, texts

from deepprune import Answerer
from deepprune.base.errors import UserError
from deepprune.data.sampling import Sampling
from deepprune.data.truncation import Truncation
from deepprune.engines import reasoners
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.live_judging import JudgeLost
from deepprune.prune.methods.adaptive import AdaptiveSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings


def test_the_pages_example_runs(monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "live.md").read_text(), re.DOTALL)
    reasoner = MadeUp(texts(64))
    monkeypatch.setattr(reasoners, "ServerReasoner", lambda url, model: reasoner)
    exec(example, {})
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
        reasoner = MadeUp(texts(40))
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


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="method should be one of consensus, .*, found 'best'"):
        Answerer(MadeUp([]), method="best")
    with pytest.raises(UserError, match="the method 'deepprune' needs a judge"):
        Answerer(MadeUp([]), method="deepprune")

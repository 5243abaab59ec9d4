"""Servers of a fleet that are lost and come back while the others go on; a judge that refuses one of many requests."""

import asyncio
import threading

import pytest
from fake_server import FakeServer
from serve_toys import Endpoint, ToyReasoner
from test_live import Noisy, Words

from deepprune.base.errors import UserError
from deepprune.engines.reasoners import FleetReasoner, ReasonerLost, ServerReasoner
from deepprune.engines.servers import ServerLost, ServerSettings
from deepprune.judges import JudgeOptions, Request
from deepprune.judges.server import ServerJudge
from deepprune.prune.answerer import Answerer
from deepprune.prune.endpoint.watch import context_of, judge_part, reasoner_part
from deepprune.prune.live_judging import JudgeLost, JudgeQueue


class Two:
    """Two made-up servers that can go and come back at the same address."""

    def __init__(self):
        self.servers = [FakeServer(), FakeServer()]
        self.ports = [server.http.server_address[1] for server in self.servers]
        self.urls = [server.url for server in self.servers]

    def start(self, number, model="m"):
        self.servers[number] = FakeServer(port=self.ports[number])
        self.servers[number].listed = {"data": [{"id": model, "max_model_len": 99}]}

    def close(self, *numbers):
        for number in numbers:
            self.servers[number].close()


@pytest.fixture
def two():
    servers = Two()
    yield servers
    servers.close(0, 1)


def test_a_reasoners_server_that_is_back_is_asked_again(two, smol):
    async def main():
        settings = ServerSettings(retries=0)
        reasoner = FleetReasoner([ServerReasoner(url, smol, settings) for url in two.urls])
        await reasoner.open()
        assert context_of(reasoner) is None
        part, first = reasoner_part(reasoner, 1.0), reasoner.members[0]
        two.close(1)
        reasoner.fleet.lose(reasoner.members[1], ServerLost("gone"))
        await part.mend(part)
        assert reasoner.fleet.servers == [first]
        two.start(1)
        await part.mend(part)
        assert reasoner.fleet.servers == reasoner.members and reasoner.fleet.under_way == [0, 0]
        assert context_of(reasoner) == 99
        two.close(0, 1)
        with pytest.raises(ReasonerLost, match=f"{two.urls[0]}: nobody answers.*{two.urls[1]}: nobody answers"):
            await part.mend(part)
        part.reason = "gone"
        two.start(0, model="other")
        with pytest.raises(UserError, match="serves other now, not m"):
            await part.mend(part)
        two.start(1)
        two.close(0)
        two.start(0)
        await part.mend(part)
        await reasoner.close()

    asyncio.run(main())


def test_a_judges_server_that_is_back_is_asked_again_and_checked_anew(two, smol):
    async def main():
        judge = ServerJudge(smol, JudgeOptions(judge_url=two.urls, retries=0))
        answerer = Answerer(FleetReasoner([ServerReasoner(two.urls[0], smol, ServerSettings())]), judge)
        part = judge_part(answerer, None, 1.0)
        servers, judge.checked = list(judge.clients), True
        two.close(1)
        judge.fleet.lose(servers[1], ServerLost("gone"))
        await part.mend(part)
        assert judge.fleet.servers == servers[:1] and judge.checked
        two.start(1)
        await part.mend(part)
        assert judge.fleet.servers == servers and not judge.checked
        two.close(0, 1)
        with pytest.raises(JudgeLost, match="nobody answers"):
            await part.mend(part)
        two.start(0), two.start(1)
        judge.close()

    asyncio.run(main())


def test_a_request_that_the_judge_refuses_fails_its_own_question_alone():
    class Short(Noisy):
        def _stream(self, requests):
            requests = list(requests)
            if any(len(r.prefix_b) > 20 for r in requests):
                raise UserError("a judge prompt is 2000 tokens, the judge reads at most 1024")
            yield from super()._stream(requests)

    async def main():
        queue = JudgeQueue(Short())
        asked = [[Request("q", "so 4", text, "a", "b")] for text in ("so 4", "so " * 10, "so 5")]
        return await asyncio.gather(*(queue.score(requests) for requests in asked), return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert first[0].p_same > 0.5 > third[0].p_same
    assert isinstance(second, JudgeLost) and "2000 tokens" in str(second)


def test_a_judge_whose_servers_are_gone_is_asked_once_for_all_questions():
    class Gone(Noisy):
        def _stream(self, requests):
            list(requests)
            self.asked += 1
            raise UserError("nobody answers") from ServerLost("nobody answers")
            yield

    async def main():
        judge = Gone()
        queue = JudgeQueue(judge)
        asked = [queue.score([Request("q", "so 4", "so 4", "a", "b")]) for _ in range(8)]
        return judge, await asyncio.gather(*asked, return_exceptions=True)

    judge, failures = asyncio.run(main())
    assert all(isinstance(failure, JudgeLost) for failure in failures) and judge.asked == 1


def test_the_others_do_not_wait_while_a_long_request_is_read():
    begun, go_on = threading.Event(), threading.Event()

    class Patient(Words):
        def apply_chat_template(self, chat, **more):
            if "patience" in chat[-1]["content"]:
                begun.set()
                assert go_on.wait(60)
            return super().apply_chat_template(chat, **more)

    reasoner = ToyReasoner()
    reasoner.tokenizer = Patient()
    with Endpoint(reasoner, judged=False) as running:

        async def both():
            long = asyncio.create_task(
                asyncio.to_thread(running.ask, messages=[{"role": "user", "content": "patience"}])
            )
            await asyncio.to_thread(begun.wait)
            other = await asyncio.to_thread(running.ask)
            go_on.set()
            return (await long)[0], other[0]

        assert asyncio.run(both()) == (200, 200)

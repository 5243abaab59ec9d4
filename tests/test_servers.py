"""Fleets: work goes where there is room, and what a server that is lost was to do is done by the others."""

import asyncio
import email.utils
import json
import threading
import time

import pytest
from conftest import load_script, make_problem
from fake_server import FakeServer, chat_reply

from deepprune import judges
from deepprune.base import records
from deepprune.base.errors import UserError
from deepprune.base.records import Trace
from deepprune.data.sampling import Sampling
from deepprune.engines.chat import ChatRequest, ChatServers, Reply
from deepprune.engines.reasoners import FleetReasoner, ReasonerLost, ServerReasoner
from deepprune.engines.servers import Fleet, ServerLost, ServerSettings

ONCE = ServerSettings(retries=0)


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0.0)
    fakes = [FakeServer() for _ in range(3)]
    yield fakes
    for fake in fakes:
        fake.close()


def test_work_goes_where_least_is_under_way():
    fleet = Fleet("abc")
    taken = [fleet.take() for _ in range(4)]
    assert sorted(taken[:3]) == ["a", "b", "c"] and taken[3] == "a"
    fleet.give("b")
    assert fleet.take() == "b" and fleet.under_way == [2, 1, 1]


def test_a_lost_server_is_left_out_and_the_last_ones_error_is_raised(capsys):
    fleet, asked = Fleet("abc"), []

    def ask(server):
        asked.append(server)
        if server != "c":
            raise ServerLost(f"{server} is gone")
        return server.upper()

    assert fleet.run(ask) == "C" and asked == ["a", "b", "c"] and fleet.servers == ["c"]
    assert "a is gone; the other servers go on (2 left)" in capsys.readouterr().err
    with pytest.raises(ServerLost, match="c is gone"):
        fleet.lose("c", ServerLost("c is gone"))
    with pytest.raises(KeyError):  # what is no server's loss ends the work, and the turn is given back
        fleet.run(lambda server: {}[server])
    assert fleet.under_way == [0]


def streamed(fakes, smol):
    async def work():
        fleet = FleetReasoner([ServerReasoner(fake.url, smol, ONCE) for fake in fakes])
        try:
            await fleet.open()
            return [c async for c in fleet.stream([1, 2], Sampling(), 5, asyncio.Event())]
        finally:
            await fleet.close()

    return asyncio.run(work())


def test_a_trace_goes_on_where_its_server_died(servers, smol, capsys):
    servers[0].break_off = True
    chunks = streamed(servers[:2], smol)
    assert [t for c in chunks for t in c.token_ids] == [6, 7] and chunks[-1].finish_reason == "stop"
    (body,) = servers[1].asked
    assert body["prompt"] == [1, 2, 6] and body["max_tokens"] == 4
    assert "ended without a finish reason" in capsys.readouterr().err
    with pytest.raises(ReasonerLost, match="ended without a finish reason"):
        streamed(servers[:1], smol)


def test_servers_that_cannot_be_reached_are_left_out_unless_all_are(servers, smol):
    servers[0].close()
    assert streamed(servers[:2], smol)[-1].finish_reason == "stop"
    with pytest.raises(UserError, match="no OpenAI-compatible server answers there"):
        streamed(servers[:1], smol)
    servers[2].key = "right"  # a refusal is for the user, whoever else answers
    with pytest.raises(UserError, match="wants a key"):
        streamed(servers[1:], smol)


def test_the_model_is_chosen_among_those_that_are_offered(servers, smol):
    servers[0].listed = {"data": [{"id": "base"}, {"id": "lora"}]}
    for served, asked in ((None, "base"), ("lora", "lora")):
        options = judges.JudgeOptions(judge_url=[servers[0].url], served_model=served, retries=0)
        judge = judges.open_judge("server", smol, options)
        servers[0].refuse = [400]
        with pytest.raises(UserError, match="refused a request"):
            judge.score([judges.Request("q", "a", "b", "x", "y")])
        assert servers[0].asked[-1]["model"] == asked
        judge.close()
    with pytest.raises(UserError, match="judge 'server' has none in this process"):
        judges.open_judge("server", smol, judge_url=[servers[0].url], engine_args=["a=1"])
    with pytest.raises(UserError, match="offers base, lora, not --served-model other"):
        judges.open_judge("server", smol, judges.JudgeOptions(judge_url=[servers[0].url], served_model="other"))


# -- stage 01 from chat endpoints


def sampled(fakes, requests=4, settings=ONCE, at_once=2, **more):
    async def work():
        chats = ChatServers([fake.url for fake in fakes], settings, more.pop("sampling", Sampling()), **more)
        try:
            await chats.open()
            messages = [{"role": "user", "content": "What?"}]
            return [r async for r in chats.run(((i, ChatRequest(messages, i)) for i in range(requests)), at_once)]
        finally:
            await chats.close()

    return asyncio.run(work())


def test_a_fleet_does_all_requests_though_servers_die(servers):
    servers[0].refuse = [503] * 9
    servers[1].reply = lambda body: chat_reply(f"seed {body['seed']}")
    servers[2].reply = lambda body: chat_reply(f"seed {body['seed']}")
    replies = sampled(servers, 30)
    assert {key: reply.text for key, reply in replies} == {i: f"seed {i}" for i in range(30)}
    assert len(servers[0].asked) <= 2 and min(len(s.asked) for s in servers[1:]) > 5


def test_what_a_request_holds(servers):
    """vLLM fills what is left out from the model's generation_config; hosted models refuse what they do not know."""
    sampled(servers[:1], 1, sampling=Sampling(min_p=0.1))
    (body,) = servers[0].asked
    assert "top_k" not in body and "repetition_penalty" not in body and body["min_p"] == 0.1 and body["seed"] == 0
    servers[0].listed = {"data": [{"id": "m", "owned_by": "vllm"}]}
    budget = Sampling(thinking_token_budget=50)
    sampled(servers[:1], 1, sampling=budget, top=3, template={"enable_thinking": False}, more={"seed": None, "x": 1})
    body = servers[0].asked[-1]
    assert body["top_k"] == 0 and body["repetition_penalty"] == 1.0 and body["thinking_token_budget"] == 50
    assert body["logprobs"] is True and body["top_logprobs"] == 3 and "seed" not in body and body["x"] == 1
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["messages"] == [{"role": "user", "content": "What?"}] and body["model"] == "m"


def test_what_a_reply_holds(servers):
    top = [{"token": "a", "logprob": -0.5, "bytes": None}, {"token": "b", "logprob": -1.5, "bytes": None}]
    content = [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": top}]
    for name in ("reasoning_content", "reasoning"):
        servers[0].reply = lambda body, n=name: chat_reply("42", 17, {"content": content}, **{n: "12 + 30"})
        ((_, reply),) = sampled(servers[:1], 1)
        assert reply.text == "<think>\n12 + 30\n</think>\n\n42" and reply.n_tokens == 17
        assert reply.finish_reason == "stop" and reply.logprobs == [[-0.5, -1.5]]
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "12 + 30"}]}, {"type": "text", "text": "42"}]
    servers[0].reply = lambda body: chat_reply(parts, 17)
    assert sampled(servers[:1], 1)[0][1] == Reply("<think>\n12 + 30\n</think>\n\n42", 17, "stop")
    servers[0].reply = lambda body: chat_reply(None, 0)  # nothing but its end token
    assert sampled(servers[:1], 1)[0][1] == Reply("", 0, "stop")
    servers[0].refuse = [400]
    with pytest.raises(UserError, match="because.*--request-args NAME=null"):
        sampled(servers[:1], 1)


@pytest.mark.parametrize(
    ("tokens", "read_as"),
    [
        (None, []),
        ({"content": [{"token": "a", "logprob": -1.0}]}, []),
        ({"content": [{"top_logprobs": [{"logprob": 0.0}, {"logprob": None}]}, {"top_logprobs": None}]}, [[0.0]]),
        ({"tokens": ["a"], "token_logprobs": [-1.0]}, []),
    ],
)
def test_log_probabilities_that_a_server_has_not_are_left_out(servers, tokens, read_as):
    servers[0].reply = lambda body: chat_reply(logprobs=tokens)
    assert sampled(servers[:1], 1, top=2)[0][1].logprobs == read_as


NO_COUNT = "without a text or without `usage`"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ('{"id": "1", "choi', "answered what is no completion: Unterminated string"),
        ("<html>\nlogin</html>", "answered what is no completion: <html> login"),
        ("", "answered what is no completion"),
        ("null", "answered what is no completion: None"),
        ('{"error": {"message": "upstream is\\nbusy"}}', "answered with an error: .*upstream is"),
        (chat_reply() | {"choices": []}, NO_COUNT),
        (chat_reply() | {"choices": [{"index": 0, "finish_reason": "stop"}]}, NO_COUNT),
        (chat_reply() | {"usage": None}, NO_COUNT),
        (chat_reply() | {"usage": {}}, NO_COUNT),
        (chat_reply("four", 0), NO_COUNT),
        (chat_reply("four", -1), NO_COUNT),
        (chat_reply() | {"usage": {"completion_tokens": "4"}}, NO_COUNT),
        (chat_reply("four", reasoning={"text": "2 + 2"}), "a text of a form that is not known"),
    ],
)
def test_an_answer_that_is_none_is_one_line_and_no_trace(servers, reply, says):
    servers[0].reply = lambda body: reply
    with pytest.raises(UserError, match=says) as error:
        sampled(servers[:1], 1)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    if isinstance(reply, str):  # the server is lost, and the others go on
        assert len(sampled(servers, 6)) == 6


def test_a_router_that_lists_no_models_is_believed_what_it_serves(servers):
    servers[0].listed = None
    with pytest.raises(UserError, match="HTTP 404"):
        sampled(servers[:1], 1)
    assert len(sampled(servers[:1], 1, ServerSettings(retries=0, served_model="some/model"))) == 1
    assert servers[0].asked[-1]["model"] == "some/model"


def test_the_servers_of_a_fleet_have_one_model(servers, smol):
    servers[1].listed = {"data": [{"id": "other"}]}
    urls = [fake.url for fake in servers]
    for ask in (
        lambda: sampled(servers),
        lambda: streamed(servers, smol),
        lambda: judges.open_judge("server", smol, judges.JudgeOptions(judge_url=urls)),
    ):
        with pytest.raises(UserError, match=r"offer different models \(m, other\): give --served-model"):
            ask()


@pytest.mark.parametrize("key", ["open sesame\n", " open sesame", "öffne dich", "open\tsesame"])
def test_no_key_is_told_whatever_it_looks_like(servers, monkeypatch, capsys, key):
    """One that was read from a file has a line's end; clients tell a header that they cannot send."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    if key.strip() != "open sesame":
        with pytest.raises(UserError, match="key in the environment variable OPENAI_API_KEY holds") as error:
            sampled(servers[:1], 1)
        assert key not in str(error.value)
        return
    servers[0].key = "open sesame"
    assert len(sampled(servers[:1], 1)) == 1
    servers[0].error = "you sent Bearer open sesame, \n" + "which " * 999
    for status in (400, 404, 429, 500):
        servers[0].refuse = [status]
        with pytest.raises(UserError, match=r"you sent Bearer \*\*\*, which") as error:
            sampled(servers[:1], 1)
        assert "sesame" not in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 700
    servers[0].refuse = [503] * 9
    assert len(sampled(servers[:2], 2)) == 2 and "sesame" not in capsys.readouterr().err


def test_a_server_that_is_too_slow_is_told_so(servers):
    answer = threading.Event()
    servers[0].reply = lambda body: answer.wait(60) and chat_reply()
    with pytest.raises(UserError, match=r"no answer within 0\.2 s: raise --timeout"):
        sampled(servers[:1], 1, ServerSettings(retries=0, timeout=0.2))
    answer.set()


def test_a_server_that_asks_for_a_longer_wait_than_we_take_is_told_of(servers):
    servers[0].refuse, servers[0].retry_after = [429], 3600
    with pytest.raises(UserError, match="it asks to wait, Retry-After: 3600"):
        sampled(servers[:1], 1, ServerSettings(retries=2))
    assert len(servers[0].asked) == 1


def test_a_server_is_waited_for_as_long_as_it_asks(servers, monkeypatch):
    from openai._base_client import BaseClient

    monkeypatch.undo()  # the client's own pauses
    own, waited = BaseClient._calculate_retry_timeout, []
    monkeypatch.setattr(BaseClient, "_calculate_retry_timeout", lambda *args: waited.append(own(*args)) or 0.0)
    servers[0].refuse, servers[0].retry_after = [429, 503], 7
    assert len(sampled(servers[:1], 1, ServerSettings(retries=2))) == 1 and waited == [7, 7]
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    servers[0].refuse, servers[0].retry_after = [429], in_a_minute
    assert len(sampled(servers[:1], 1, ServerSettings(retries=1))) == 1 and 0 < waited.pop() <= 60
    servers[0].refuse, servers[0].retry_after = [429, 503, 503], None
    assert len(sampled(servers[:1], 1, ServerSettings(retries=3))) == 1
    assert waited[2] < waited[3] < waited[4]


def test_stage_01_samples_a_model_that_nobody_can_load(servers, tmp_path, monkeypatch, capsys):
    problems, output = tmp_path / "problems.jsonl", tmp_path / "traces.jsonl"
    records.write(problems, [make_problem(i, str(2 * i)) for i in (2, 3)])
    monkeypatch.setenv("MY_KEY", "open sesame")
    for fake in servers:
        fake.key = "open sesame"
        fake.reply = lambda body: chat_reply(f"so \\boxed{{4}} {body['seed']}", 11, reasoning_content="2 + 2")
    stage = load_script("scripts/01_sample_traces.py")

    def run(*more):
        urls = [fake.url for fake in servers]
        options = ["--problems", problems, "--model", "some/hosted-1B", "--reasoner-url", *urls, "--output", output]
        options += ["--confidence-top-k", "0", "--retries", "0", *more]
        monkeypatch.setattr("sys.argv", ["01_sample_traces.py", *map(str, options)])
        stage.main()

    with pytest.raises(SystemExit):
        run()
    assert "wants a key (HTTP 401): put it into the environment variable OPENAI_API_KEY" in capsys.readouterr().err
    run("--n", "4", "--api-key-env", "MY_KEY")
    servers[0].close()
    run("--n", "6", "--api-key-env", "MY_KEY")  # four of each are there
    traces = list(records.read(Trace, output))
    assert {(t.problem_id, t.sample_index) for t in traces} == {(t.problem_id, i) for t in traces for i in range(6)}
    assert (
        len(traces) == 12 and {t.n_tokens for t in traces} == {11} and {t.model for t in traces} == {"some/hosted-1B"}
    )
    assert len({t.text for t in traces}) == 12 and sum(t.correct for t in traces) == 6
    assert traces[0].text.startswith("<think>\n2 + 2\n</think>\n\nso \\boxed{4}")
    manifest = (tmp_path / "traces.manifest.json").read_text()
    assert json.loads(manifest)["settings"]["dtype"] == "as served"
    assert "127.0.0.1" not in manifest and "sesame" not in manifest and json.loads(manifest)["complete"]
    capsys.readouterr()
    other = tmp_path / "other.jsonl"
    run("--n", "2", "--api-key-env", "MY_KEY", "--confidence-top-k", "3", "--output", other)
    assert "4 of 4 traces came without log-probabilities" in capsys.readouterr().out
    assert {trace.confidence for trace in records.read(Trace, other)} == {None}

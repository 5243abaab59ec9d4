"""What is sent to a vLLM server, and what its refusals are told as: against a small server of our own."""

import asyncio
import json
import types

import pytest
from fake_server import EVENT, FakeServer
from transformers import AutoTokenizer

from deepprune.base.errors import UserError
from deepprune.data import traces
from deepprune.data.sampling import NEUTRAL, Sampling
from deepprune.engines import reasoners
from deepprune.engines.reasoners import FleetReasoner, ReasonerLost, ServerReasoner
from deepprune.engines.servers import ServerSettings
from deepprune.judges import JudgeOptions, NotAJudge, Request, prompts
from deepprune.judges.server import ServerJudge


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0.0)
    fake = FakeServer()
    yield fake
    fake.close()


def generate(server, smol, sampling=None, url=None, retries=2):
    async def work():
        reasoner = FleetReasoner([ServerReasoner(url or server.url, smol, ServerSettings(retries=retries))])
        try:
            await reasoner.open()
            chunks = [c async for c in reasoner.stream([1, 2], sampling or Sampling(), 5, asyncio.Event())]
            return chunks, await reasoner.generated(), await reasoner.running()
        finally:
            await reasoner.close()

    return asyncio.run(work())


def test_every_sampling_parameter_is_sent(server, smol):
    """What a request leaves out, a vLLM server fills from the model's generation_config."""
    chunks, generated, running = generate(server, smol, Sampling(0.6, 0.9, 400))
    assert [c.token_ids for c in chunks] == [[7]] and chunks[-1].finish_reason == "stop"
    (body,) = server.asked
    assert {name: body[name] for name in NEUTRAL} == {
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["prompt"]) == (0.6, 0.9, 5, [1, 2])
    assert (generated, running) == (None, None)  # no metrics there: unknown, not 0
    generate(server, smol, Sampling(top_k=20, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.5))
    body = server.asked[-1]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["presence_penalty"]) == (20, 0.1, 1.1, 0.5)


def test_vllm_takes_the_same_parameters_from_a_request_and_from_us(smol):
    """A model with a generation_config of its own, as the server reads the request and as the engine is asked."""
    from vllm import SamplingParams
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    sampling = Sampling()
    own = {"top_k": 20, "repetition_penalty": 1.1, "min_p": 0.2, "temperature": 0.1, "presence_penalty": 1.0}
    served = CompletionRequest(model="m", prompt=[1], **sampling.recorded()).to_sampling_params(9, own)
    ours = SamplingParams(**sampling.recorded() | {"max_tokens": 9})
    for name in sampling.recorded():
        assert getattr(served, name) == getattr(ours, name), name


def test_the_engine_is_asked_with_the_same_parameters(smol):
    from vllm.engine.arg_utils import AsyncEngineArgs

    asked = []

    class Engine:
        async def generate(self, prompt, params, request):
            asked.append((prompt, params))
            likely = [{7: types.SimpleNamespace(logprob=-0.1), 8: types.SimpleNamespace(logprob=-2.5)}]
            logprobs = likely if params.logprobs else None
            part = types.SimpleNamespace(text=" 4", token_ids=[7], finish_reason="stop", logprobs=logprobs)
            yield types.SimpleNamespace(outputs=[part], finished=True)

    reasoner = reasoners.EngineReasoner(smol)
    assert AsyncEngineArgs(**reasoner.options).generation_config == "vllm"  # not the model's own
    reasoner.engine = Engine()

    async def work(*more):
        return [c async for c in reasoner.stream([1, 2], Sampling(top_k=20, min_p=0.1), 5, asyncio.Event(), *more)]

    assert [c.token_ids for c in asyncio.run(work())] == [[7]]
    ((prompt, params),) = asked
    assert prompt == {"prompt_token_ids": [1, 2]} and params.max_tokens == 5
    assert (params.top_k, params.min_p, params.repetition_penalty, params.temperature) == (20, 0.1, 1.0, 0.6)
    assert params.logprobs is None
    assert [c.likely for c in asyncio.run(work(2))] == [[[-0.1, -2.5]]] and asked[1][1].logprobs == 2


def test_further_arguments_reach_the_engine_and_the_chat_template(smol):
    reasoner = reasoners.EngineReasoner(smol, engine_args={"quantization": "fp8", "max_num_seqs": 3})
    assert reasoner.options["quantization"] == "fp8" and reasoner.options["max_num_seqs"] == 3
    tokenizer = AutoTokenizer.from_pretrained(smol)
    tokenizer.chat_template = "{{ messages[-1].content }}{% if enable_thinking is false %} <think></think>{% endif %}"
    off = prompts.reasoner_prompt_ids(tokenizer, "Why?", enable_thinking=False)
    assert tokenizer.decode(off) == "Why? <think></think>"
    assert tokenizer.decode(prompts.reasoner_prompt_ids(tokenizer, "Why?")) == "Why?"


def test_metrics_are_read_with_the_key(server, smol, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open sesame")
    server.key = "open sesame"
    server.metrics = (
        'vllm:generation_tokens_total{engine="0"} 12.0\nvllm:generation_tokens_total{engine="1"} 3.0\n'
        "vllm:num_requests_running 1.0\nvllm:num_requests_waiting 2.0\n"
    )
    assert generate(server, smol)[1:] == (15, 3)


def judge_of(server, smol, retries=2):
    return ServerJudge(smol, JudgeOptions(judge_url=[server.url], retries=retries))


@pytest.mark.parametrize("given", [None, "wrong"])
def test_a_server_that_wants_a_key_says_how_to_give_it(server, smol, monkeypatch, given):
    server.key = "right"
    if given:
        monkeypatch.setenv("OPENAI_API_KEY", given)
    for ask in (generate, judge_of):
        with pytest.raises(UserError, match=r"wants a key \(HTTP 401\).*OPENAI_API_KEY") as error:
            ask(server, smol)
        assert "no OpenAI-compatible server" not in str(error.value) and "wrong" not in str(error.value)


def test_a_busy_server_is_asked_again_and_others_are_not(server, smol):
    server.refuse = [429, 503]
    assert generate(server, smol)[0][-1].finish_reason == "stop" and len(server.asked) == 3
    server.refuse = [429] * 3
    with pytest.raises(ReasonerLost, match=r"too many requests.*HTTP 429.*tried up to 3 times"):
        generate(server, smol)
    server.refuse = [500] * 3
    with pytest.raises(ReasonerLost, match=r"the server failed.*HTTP 500.*tried up to 3 times"):
        generate(server, smol)
    for status, says in (
        (404, "no such model or address"),
        (400, "refused a request.*because"),
    ):
        server.asked, server.refuse = [], [status]
        with pytest.raises(ReasonerLost, match=says):
            generate(server, smol)
        assert len(server.asked) == 1


def test_the_judges_server_is_told_of_alike(server, smol, monkeypatch):
    judge = judge_of(server, smol, retries=1)
    for statuses, says in (
        ([429] * 2, "HTTP 429.*tried up to 2 times"),
        ([404], "no such model"),
        ([403], "wants a key"),
    ):
        server.refuse = list(statuses)
        with pytest.raises(UserError, match=says):
            judge.score([Request("q", "a", "b", "x", "y")])
    judge.close()


@pytest.mark.parametrize(
    ("listed", "says"),
    [({"data": []}, "offers no model"), ("[]", "no OpenAI-compatible server"), (None, r"HTTP 404.*/v1"),
     ({"data": [{}]}, "no OpenAI-compatible server"), ("{", "no OpenAI-compatible server")],
)  # fmt: skip
def test_what_is_no_such_server_is_one_line(server, smol, listed, says):
    server.listed = listed
    for ask in (generate, judge_of):
        with pytest.raises(UserError, match=says):
            ask(server, smol)


def test_a_server_of_another_model_is_refused(server, smol):
    """Prompts are token ids: another tokenizer's are nonsense there, and no error."""
    tokenizer = AutoTokenizer.from_pretrained(smol)
    server.tokens = lambda body: tokenizer.encode(body["prompt"], add_special_tokens=body["add_special_tokens"])
    assert generate(server, smol)[0][-1].finish_reason == "stop"
    server.tokens = lambda body: [1, 2, 3]
    with pytest.raises(UserError, match="serves m, whose tokens are not those of .*: give the model that is served"):
        generate(server, smol)


def events(*said):
    """A stream of these events, objects or text."""
    return "".join(f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in said)


GOES_ON = EVENT | {"choices": [EVENT["choices"][0] | {"finish_reason": None}]}
NO_IDS = EVENT | {"choices": [{k: v for k, v in EVENT["choices"][0].items() if k != "token_ids"}]}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (events(GOES_ON, '{"id": "1", "cho'), "connection broke while generating: Unterminated string"),
        (events(GOES_ON, {"error": {"message": "out of\nmemory"}}), "connection broke while generating: out of memory"),
        (events(GOES_ON, "null", "[DONE]"), "ended without a finish reason"),
        ("<html>", "ended without a finish reason"),
        (events(NO_IDS, "[DONE]"), "returns no token ids"),
    ],
)
def test_a_stream_that_is_none_is_one_line(server, smol, said, says):
    server.said = said
    with pytest.raises(ReasonerLost, match=says):
        generate(server, smol)


def test_a_count_after_the_last_token_is_no_end_without_a_reason(server, smol):
    usage = EVENT | {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}}
    server.said = ": ping\n\n" + events(GOES_ON, EVENT, usage, "[DONE]")
    chunks = generate(server, smol)[0]
    assert [c.token_ids for c in chunks] == [[7], [7]] and chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("logprobs", "says"),
    [
        (None, "no log-probabilities by token id"),
        ({}, "no log-probabilities by token id"),
        ({"top_logprobs": []}, "no log-probabilities by token id"),
        ({"top_logprobs": [None]}, "no log-probabilities by token id"),
        ({"top_logprobs": [{" yes": -0.5, " no": -1.0}]}, "no log-probabilities by token id"),
    ],
)
def test_a_judges_server_that_is_no_vllm_is_one_line(server, smol, logprobs, says):
    server.said = json.dumps(EVENT | {"choices": [EVENT["choices"][0] | {"logprobs": logprobs}]})
    judge = judge_of(server, smol)
    with pytest.raises(NotAJudge, match=says):
        judge.score([Request("q", "a", "b", "x", "y")])
    for broken, says in (('{"id', "answered what is no completion"), ('{"error": "busy"}', "with an error: busy")):
        server.said = broken
        with pytest.raises(UserError, match=says):
            judge.score([Request("q", "a", "b", "x", "y")])
    judge.close()


def test_a_password_in_a_url_is_not_told(server, smol):
    server.listed = None
    with pytest.raises(UserError) as error:
        generate(server, smol, url=server.url.replace("//", "//me:secret@"))
    assert "secret" not in str(error.value) and "127.0.0.1" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -1.0), ("top_p", 2.0), ("top_p", 0.0), ("max_tokens", 0), ("top_k", -1), ("min_p", 1.5),
     ("repetition_penalty", 0.0), ("presence_penalty", 3.0), ("temperature", float("nan"))],
)  # fmt: skip
def test_sampling_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=f"{name} should be"):
        Sampling(**{name: value})


def test_neutral_parameters_leave_trace_ids_as_they_were():
    from conftest import make_problem

    def made(**sampling):
        return traces.make(
            make_problem(), "m", 0, "so \\boxed{4}", 5, "stop", {"temperature": 0.8, **sampling}
        ).trace_id

    assert made() == made(**NEUTRAL) != made(**NEUTRAL | {"top_k": 20})

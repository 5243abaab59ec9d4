"""What is sent to a vLLM server, and what its refusals are told as: against a small server of our own."""

import asyncio
import http.server
import json
import threading
import types

import pytest
from transformers import AutoTokenizer

from deepprune.base.errors import UserError
from deepprune.data import traces
from deepprune.data.sampling import NEUTRAL, Sampling
from deepprune.engines import reasoners
from deepprune.engines.reasoners import ReasonerLost, ServerReasoner
from deepprune.judges import JudgeOptions, Request
from deepprune.judges.server import ServerJudge

EVENT = {
    "id": "1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": " 4", "token_ids": [7], "finish_reason": "stop", "logprobs": None}],
}


class Server:
    """An OpenAI-compatible server: `key` wanted, `refuse` a list of statuses for the completions to come."""

    def __init__(self, key=None):
        self.key, self.refuse, self.asked, self.listed, self.metrics = key, [], [], {"data": [{"id": "m"}]}, None
        self.tokens = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, text, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def refused(self):
                if outer.key and self.headers.get("Authorization") != f"Bearer {outer.key}":
                    self.answer(401, '{"error": "Unauthorized"}')
                    return True
                return False

            def do_GET(self):
                if self.refused():
                    return
                if self.path == "/metrics" and outer.metrics is not None:
                    self.answer(200, outer.metrics, "text/plain")
                elif self.path == "/v1/models" and outer.listed is not None:
                    self.answer(200, outer.listed if isinstance(outer.listed, str) else json.dumps(outer.listed))
                else:
                    self.answer(404, '{"detail": "Not Found"}')

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.refused():
                    return
                if self.path == "/tokenize":
                    if outer.tokens is None:
                        self.answer(404, '{"detail": "Not Found"}')
                    else:
                        self.answer(200, json.dumps({"tokens": outer.tokens(json.loads(body))}))
                    return
                outer.asked.append(json.loads(body))
                if outer.refuse:
                    self.answer(outer.refuse.pop(0), '{"error": {"message": "because"}}')
                else:
                    self.answer(200, f"data: {json.dumps(EVENT)}\n\ndata: [DONE]\n\n", "text/event-stream")

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(reasoners, "backoff", lambda attempt: 0.0)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def generate(server, smol, sampling=None, url=None, retries=2):
    async def work():
        reasoner = ServerReasoner(url or server.url, smol, retries=retries)
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
            part = types.SimpleNamespace(text=" 4", token_ids=[7], finish_reason="stop")
            yield types.SimpleNamespace(outputs=[part], finished=True)

    reasoner = reasoners.EngineReasoner(smol)
    assert AsyncEngineArgs(**reasoner.options).generation_config == "vllm"  # not the model's own
    reasoner.engine = Engine()

    async def work():
        return [c async for c in reasoner.stream([1, 2], Sampling(top_k=20, min_p=0.1), 5, asyncio.Event())]

    assert [c.token_ids for c in asyncio.run(work())] == [[7]]
    ((prompt, params),) = asked
    assert prompt == {"prompt_token_ids": [1, 2]} and params.max_tokens == 5
    assert (params.top_k, params.min_p, params.repetition_penalty, params.temperature) == (20, 0.1, 1.0, 0.6)


def test_metrics_are_read_with_the_key(server, smol, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open sesame")
    server.key = "open sesame"
    server.metrics = (
        'vllm:generation_tokens_total{engine="0"} 12.0\nvllm:generation_tokens_total{engine="1"} 3.0\n'
        "vllm:num_requests_running 1.0\nvllm:num_requests_waiting 2.0\n"
    )
    assert generate(server, smol)[1:] == (15, 3)


def judge_of(server, smol, retries=2):
    return ServerJudge(smol, JudgeOptions(url=server.url, retries=retries))


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
    with pytest.raises(ReasonerLost, match=r"too many requests.*HTTP 429.*tried 3 times"):
        generate(server, smol)
    for status, says in (
        (404, "no such model or address"),
        (500, "the server failed"),
        (400, "refused a request.*because"),
    ):
        server.asked, server.refuse = [], [status]
        with pytest.raises(ReasonerLost, match=says):
            generate(server, smol)
        assert len(server.asked) == 1


def test_the_judges_server_is_told_of_alike(server, smol, monkeypatch):
    monkeypatch.setattr("deepprune.judges.server.backoff", lambda attempt: 0.0)
    judge = judge_of(server, smol, retries=1)
    for statuses, says in (([429] * 2, "HTTP 429.*tried 2 times"), ([404], "no such model"), ([403], "wants a key")):
        server.refuse = list(statuses)
        with pytest.raises(UserError, match=says):
            judge.score([Request("q", "a", "b", "x", "y")])
    judge.close()


@pytest.mark.parametrize(
    ("listed", "says"),
    [({"data": []}, "no OpenAI-compatible server"), ("[]", "no OpenAI-compatible server"), (None, r"HTTP 404.*/v1")],
)
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

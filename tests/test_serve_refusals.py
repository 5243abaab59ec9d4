"""What the endpoint refuses: OpenAI's error shape and the right status, by name, before anything is generated."""

import asyncio
import gzip
import json
import socket

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve_toys import NAME, QUESTION, Endpoint, ToyReasoner

from deepprune.base import config
from deepprune.base.errors import UserError
from deepprune.prune.endpoint import body, conversation
from deepprune.prune.endpoint.catalogue import Catalogue, Offer
from deepprune.prune.endpoint.refusals import Refusal
from deepprune.prune.endpoint.settings import ServeSettings, is_loopback

KEY = "open sesame, größer"


@pytest.fixture(scope="module")
def endpoint():
    with Endpoint(judged=False, body_limit=8000, most_traces=32, max_tokens=100) as running:
        yield running
        assert running.reasoner.made == 0


def check(reply, status, code, param=None):
    """The reply is an error of OpenAI's shape."""
    got, _, error = reply
    assert got == status and error.keys() == {"error"} and error["error"].keys() == {"message", "type", "param", "code"}
    assert error["error"]["code"] == code and error["error"]["param"] == param and error["error"]["message"]
    return error["error"]


def until_closed(connection):
    """All that the server sends: head and body may come one after the other."""
    return b"".join(iter(lambda: connection.recv(9999), b""))


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
PARTS = [{"type": "text", "text": "What is it?"}, *IMAGE]
FORMAT = {"type": "json_object"}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "field, value, code",
    [
        ("messages", [], "invalid_value"),
        ("messages", None, "invalid_type"),
        ("messages", "What is 2 + 2?", "invalid_type"),
        ("n", 10**9, "unsupported_parameter"),
        ("n", 2, "unsupported_parameter"),
        ("n", True, "unsupported_parameter"),
        ("logprobs", 0, "unsupported_parameter"),
        ("temperature", -0.1, "invalid_value"),
        ("temperature", 2.1, "invalid_value"),
        ("temperature", "0.5", "invalid_type"),
        ("temperature", True, "invalid_type"),
        ("temperature", 0, "invalid_value"),
        ("top_p", 0, "invalid_value"),
        ("top_p", 1.5, "invalid_value"),
        ("top_k", 10**30, "invalid_value"),
        ("repetition_penalty", 1e-300, "invalid_value"),
        ("max_tokens", -1, "invalid_value"),
        ("max_tokens", 0, "invalid_value"),
        ("max_tokens", 101, "invalid_value"),
        ("max_tokens", 10**400, "invalid_value"),
        ("max_tokens", 1.5, "invalid_type"),
        ("max_completion_tokens", 101, "invalid_value"),
        ("stream", "yes", "invalid_type"),
        ("stream", 1, "invalid_type"),
        ("stream_options", {"include_usages": True}, "unknown_parameter"),
        ("stream_options", {"include_usage": True}, "invalid_value"),
        ("seed", 1, "unsupported_parameter"),
        ("stop", "\n", "unsupported_parameter"),
        ("stop", ["\n"], "unsupported_parameter"),
        ("tools", [TOOL], "unsupported_parameter"),
        ("tool_choice", "required", "unsupported_parameter"),
        ("functions", [{"name": "f"}], "unsupported_parameter"),
        ("response_format", FORMAT, "unsupported_parameter"),
        ("logprobs", True, "unsupported_parameter"),
        ("logit_bias", {"1": 2}, "unsupported_parameter"),
        ("reasoning_effort", "high", "unsupported_parameter"),
        ("temprature", 0.5, "unknown_parameter"),
        ("answer_type", "number", "invalid_value"),
        ("model", 7, "invalid_type"),
        ("model", f"{NAME}-adaptive-33", "invalid_value"),
        ("model", f"{NAME}-adaptive-0", "invalid_value"),
        ("model", f"{NAME}-adaptive-{10**9}", "invalid_value"),
        ("model", f"{NAME}-adaptive-{'9' * 3000}", "invalid_value"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(endpoint, field, value, code):
    error = check(endpoint.ask(**{field: value}), 400, code, error_param(field, value))
    assert error["type"] == "invalid_request_error" and field in error["message"] and len(error["message"]) < 400


def error_param(field, value):
    return "stream_options.include_usages" if "include_usages" in str(value) else field


@pytest.mark.parametrize(
    "model", ["gpt-4o", f"{NAME}-adaptive", f"{NAME}-best-8", f"other-{NAME}-adaptive-8", "", "-8"]
)
def test_a_model_that_is_not_there(endpoint, model):
    check(endpoint.ask(model=model), 404, "model_not_found", "model")


@pytest.mark.parametrize(
    "messages, param, code",
    [
        ([{"role": "user", "content": IMAGE}], "messages[0].content[0]", "unsupported_content"),
        ([{"role": "user", "content": PARTS}], "messages[0].content[1]", "unsupported_content"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]", "unsupported_content"),
        ([{"role": "user", "content": ["What?"]}], "messages[0].content[0]", "invalid_type"),
        ([{"role": "user", "content": None}], "messages[0].content", "invalid_type"),
        ([{"role": "user"}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": " \n"}], "messages", "invalid_value"),
        ([{"content": "What?"}], "messages[0].role", "invalid_value"),
        ([{"role": ["user"], "content": "What?"}], "messages[0].role", "invalid_value"),
        ([*QUESTION, {"role": "tool", "content": "4", "tool_call_id": "1"}], "messages[1].role", "invalid_value"),
        ([*QUESTION, {"role": "assistant", "content": "It is"}], "messages", "invalid_value"),
        ([{"role": "assistant", "content": "Hello"}, *QUESTION], "messages", "invalid_value"),
        ([{"role": "system", "content": "Be brief."}], "messages", "invalid_value"),
        ([{"role": "user", "content": "What?", "name": "Ann"}], "messages[0].name", "unsupported_parameter"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [TOOL]}, *QUESTION],
            "messages[1].tool_calls",
            "unsupported_parameter",
        ),
    ],
)
def test_messages_that_are_not_text_that_ends_in_a_question(endpoint, messages, param, code):
    check(endpoint.ask(messages=messages), 400, code, param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"model": "a", "model": "b"}',
        b'{"messages": ' + b"[" * 3900,
        b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=range(12),
)
def test_a_body_that_is_no_json_object(endpoint, raw):
    check(endpoint.ask(raw=raw), 400, "invalid_json")


def test_nan_is_refused_whatever_else_is_right(endpoint):
    raw = json.dumps({"model": f"{NAME}-adaptive-8", "messages": QUESTION, "temperature": float("nan")}).encode()
    error = check(endpoint.ask(raw=raw), 400, "invalid_json")
    assert "NaN" in error["message"]


def test_a_missing_field_is_named(endpoint):
    check(endpoint.ask(raw=b"{}"), 400, "missing_required_parameter", "model")
    check(endpoint.ask(raw=b'{"model": "x"}'), 400, "missing_required_parameter", "messages")


def test_addresses_and_methods_that_are_not_there(endpoint):
    check(endpoint.get("/v1/completions", data=b"{}"), 404, "unknown_url")
    reply = endpoint.get("/v1/chat/completions")
    check(reply, 405, "unknown_url")
    assert reply[1]["Allow"] == "POST"
    check(endpoint.ask(path="/v1/chat/completions/"), 404, "unknown_url")  # and no redirection, which a proxy may break


def test_what_checks_health_may_ask_for_the_head_alone(endpoint):
    with socket.create_connection(endpoint.listener.getsockname()) as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n")


def test_two_limits_that_differ(endpoint):
    check(endpoint.ask(max_tokens=5, max_completion_tokens=6), 400, "invalid_value", "max_tokens")


def test_an_unsupported_type_of_body(endpoint):
    with socket.create_connection(endpoint.listener.getsockname()) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert connection.recv(9999).startswith(b"HTTP/1.1 415 ")
    packed = gzip.compress(json.dumps({"model": f"{NAME}-adaptive-8", "messages": QUESTION}).encode())
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(endpoint.listener.getsockname()) as connection:
        connection.sendall(f"{head}Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed)
        answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 415 ") and b"Content-Encoding 'gzip' is not supported" in answer


def test_a_place_in_a_list_is_named_as_one(endpoint):
    check(endpoint.ask(messages=[*QUESTION, "x"]), 400, "invalid_type", "messages[1]")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_not_read_whole(endpoint, chunked):
    """Only the head and a little of 50 MB are ever sent."""
    how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 52428800"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{how}\r\n\r\n"
    with socket.create_connection(endpoint.listener.getsockname()) as connection:
        connection.sendall(head.encode() + (b"2000\r\n" + b"a" * 8192 + b"\r\n" if chunked else b""))
        answer = until_closed(connection).decode()
        assert answer.startswith("HTTP/1.1 413 ") and "connection: close" in answer.lower()
        assert json.loads(answer.partition("\r\n\r\n")[2])["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nowhere"])
def test_a_client_that_still_sends_a_refused_body_can_read_the_answer(endpoint, path):
    """Also where the answer is there long before the end of the body."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 30000000\r\n\r\n"
    with socket.create_connection(endpoint.listener.getsockname()) as connection:
        connection.sendall(head.encode())
        assert connection.recv(9, socket.MSG_PEEK) == b"HTTP/1.1 "
        connection.sendall(b"a" * 30_000_000)
        answer = connection.recv(9999)
        assert answer.startswith(b"HTTP/1.1 413 " if path.endswith("completions") else b"HTTP/1.1 404 ")


def test_the_openai_client_is_told_that_its_body_is_too_large(endpoint):
    client = openai.OpenAI(base_url=endpoint.url, api_key="none", max_retries=0)
    with pytest.raises(openai.APIStatusError, match="larger than 8000 bytes") as told:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a" * 50_000_000}])
    assert told.value.status_code == 413


def test_what_changes_nothing_is_taken():
    neutral = {"n": 1, "seed": None, "stop": None, "logprobs": False, "tools": [], "response_format": {"type": "text"}}
    labels = {"user": "ann", "metadata": {"run": "7"}, "store": False, "service_tier": "auto", "stream": None}
    read = body.read(json.dumps({"model": "m", "messages": QUESTION} | neutral | labels).encode())
    assert read.sampled == {} and read.longest is None and not read.stream


def test_a_key_is_wanted_if_there_is_one(monkeypatch, capfd):
    monkeypatch.setenv("DEEPPRUNE_API_KEY", KEY)
    with Endpoint(judged=False) as running:
        for key in (None, "open", KEY.encode("latin-1").decode("latin-1") + "x"):
            for reply in (
                running.ask(key=key and key.encode().decode("latin-1")),
                running.get("/v1/models", key and key.encode().decode("latin-1")),
                running.get("/metrics", key and key.encode().decode("latin-1")),
            ):
                assert check(reply, 401, "invalid_api_key")["type"] == "authentication_error"
                assert reply[1]["WWW-Authenticate"] == "Bearer"
        assert running.get("/health")[2] == {
            "status": "ok",
            "questions": 0,
            "reasoner": {"state": "ok"},
            "judge": {"state": "none"},
        }
        assert running.ask(key=KEY.encode().decode("latin-1"))[0] == 200
        # It is asked for before the body is looked at.
        check(running.ask(raw=b"{"), 401, "invalid_api_key")
    assert "sesame" not in "".join(capfd.readouterr())


def test_listening_for_others_wants_a_key(monkeypatch):
    monkeypatch.delenv("DEEPPRUNE_API_KEY", raising=False)
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(UserError, match="put a key into the environment variable DEEPPRUNE_API_KEY"):
            ServeSettings(reasoner="m", host=host).key()
    assert ServeSettings(reasoner="m").key() is None and ServeSettings(reasoner="m", host="localhost").key() is None
    monkeypatch.setenv("MINE", "k\n")  # as a file's line
    assert ServeSettings(reasoner="m", host="0.0.0.0", key_env="MINE").key() == "k"
    assert is_loopback("127.0.0.1") and is_loopback("::1") and not is_loopback("192.0.2.1")


@pytest.mark.parametrize("recipe", ["cpu", "paper"])
def test_a_recipes_section_is_that_of_an_endpoint(recipe):
    argv = ["--config", f"scripts/recipes/{recipe}.yaml", "--reasoner", "org/m-1B", "--reasoner-name", "org/m-1B"]
    catalogue = config.parse(ServeSettings, "serve", "", argv).catalogue
    assert catalogue.models == ["m-1B-consensus-16", "m-1B-adaptive-16", "m-1B-esc-16", "m-1B-deepconf-64"]
    _, offer, count = catalogue.find("m-1B-adaptive-128")
    assert count == 128 and offer.options.rolling and offer.options.batch == 4


@pytest.mark.parametrize(
    "entry", ["adaptive", "adaptive-0", "adaptive-65", "best-8", "deepprune-8", "-8", "adaptive-x"]
)
def test_models_that_cannot_be_offered(entry):
    with pytest.raises(UserError, match="--models takes METHOD-N"):
        Catalogue("m", {"adaptive": Offer("adaptive")}, [entry], 64)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(min_size=1)), max_size=6))
def test_turns_alternate_and_nothing_is_lost(turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    spoken = [(role, content) for role, content in turns if role != "system"]
    try:
        talk = conversation.read(messages)
    except Refusal as refusal:
        last = [content for role, content in spoken if role == "user"]
        wrong = not spoken or spoken[-1][0] != "user" or spoken[0][0] != "user" or not last[-1].strip()
        assert refusal.status == 400 and wrong
        return
    roles = [role for role, _ in talk.earlier] + ["user"]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    texts = [content for _, content in talk.earlier] + [talk.question]
    assert "\n\n".join(texts) == "\n\n".join(content for _, content in spoken)
    assert (talk.system or "") == "\n\n".join(content for role, content in turns if role == "system")


def test_a_question_that_the_judge_cannot_read_is_the_clients_fault_and_no_others():
    """The judge is still there, and a question that was judged together with it is answered."""
    long = [{"role": "user", "content": "What is 2 + 2? " + "Think well. " * 50}]
    with Endpoint(ToyReasoner(pace=0.01)) as running:

        async def together():
            asking = [asyncio.to_thread(running.ask, "deepprune-4", **more) for more in ({"messages": long}, {}, {})]
            return await asyncio.gather(*asking)

        (status, _, reply), *others = asyncio.run(together())
        error = reply["error"]
        assert status == 400 and (error["param"], error["code"]) == ("messages", "context_length_exceeded"), reply
        assert "reads at most 1024" in error["message"] and error["type"] == "invalid_request_error"
        assert [status for status, *_ in others] == [200, 200]
        assert running.get("/health")[2]["status"] == "ok" and running.reasoner.open_now == 0
        assert running.ask("adaptive-4", messages=long)[0] == 200

"""The endpoint as clients see it: models, answers, streams, what is counted and logged, hang-ups, what is gone."""

import asyncio
import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import time

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serve_toys import NAME, QUESTION, Endpoint, ToyReasoner, wrong_at_times
from servers import until

from deepprune.base import jsonl
from deepprune.data.sampling import Sampling
from deepprune.prune import live_setup
from deepprune.prune.endpoint.settings import ServeSettings
from deepprune.prune.methods import METHODS


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """One with a judge and a log; tests change nothing of it."""
    with Endpoint(log=tmp_path_factory.mktemp("serve") / "answers.jsonl") as running:
        yield running


def samples(text):
    """{(name, method): value} of /metrics."""
    return {
        (
            sample.name,
            sample.labels.get("method") or sample.labels.get("status") or sample.labels.get("part"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_model_a_method_is_listed_those_with_a_judge_only_where_there_is_one(endpoint):
    client = openai.OpenAI(base_url=endpoint.url, api_key="none")
    names = [model.id for model in client.models.list()]
    assert names == [
        f"{NAME}-{m}" for m in ("consensus-16", "adaptive-16", "esc-16", "deepconf-64", "deepprune-64", "posterior-64")
    ]
    assert client.models.retrieve(f"{NAME}-esc-3").id == f"{NAME}-esc-3"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("gpt-4o")
    with Endpoint(judged=False, most_traces=8) as plain:
        assert [row["id"] for row in plain.get("/v1/models")[2]["data"]] == [
            f"{NAME}-{m}-8" for m in ("consensus", "adaptive", "esc", "deepconf")
        ]
        status, _, reply = plain.ask("deepprune-4")
        assert status == 404 and reply["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("method", [f"{name}-8" for name in METHODS])
def test_an_answer_by_each_method_counts_what_was_generated(endpoint, method):
    before = endpoint.reasoner.made
    client = openai.OpenAI(base_url=endpoint.url, api_key="none")
    reply = client.chat.completions.create(model=f"{NAME}-{method}", messages=QUESTION)
    made = endpoint.reasoner.made - before
    choice, more = reply.choices[0], reply.deepprune
    assert choice.finish_reason == "stop" and choice.message.content.endswith("Therefore the answer is \\boxed{4}.")
    assert reply.usage.completion_tokens == made == more["tokens"]["total"]
    shown = len(choice.message.content.split(" "))
    assert reply.usage.completion_tokens_details.reasoning_tokens == made - shown
    prompt = len(f"{QUESTION[0]['content']}{endpoint.settings.suffix}".split(" "))
    assert reply.usage.prompt_tokens == prompt and reply.usage.total_tokens == prompt + made
    assert more["answer"] == "4" == next(iter(more["votes"])) and 0.5 < more["confidence"] <= 1
    assert more["method"] == method.removesuffix("-8") and more["n"] == 8 and sum(more["traces"].values()) <= 8
    saving = more["saving"]
    assert saving["tokens"] == saving["consensus_tokens"] - made and saving["share"] == pytest.approx(
        saving["tokens"] / saving["consensus_tokens"]
    )
    judged = more["judge"]["prompt_tokens"] / 2  # ToyJudge has half of Toy-1B's parameters
    assert saving["share_with_judge"] == pytest.approx((saving["tokens"] - judged) / saving["consensus_tokens"])
    assert METHODS[more["method"]].needs_judge or not more["judge"]["calls"]
    assert more["judge"]["calls"] or more["method"] != "deepprune"


def test_a_stream_tells_progress_in_comments_then_the_answer(endpoint):
    client = openai.OpenAI(base_url=endpoint.url, api_key="none")
    whole = client.chat.completions.create(model=f"{NAME}-consensus-4", messages=QUESTION)
    stream = client.chat.completions.create(
        model=f"{NAME}-consensus-4", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.split(",")[0] == whole.choices[0].message.content.split(",")[0] and "\\boxed{4}" in text
    assert chunks[0].choices[0].delta.role == "assistant" and {c.id for c in chunks} == {chunks[0].id}
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and chunks[-2].deepprune["answer"] == "4"
    raw = endpoint.ask("adaptive-4", stream=True)[2].split("\n\n")
    assert raw[0].startswith(": progress {") and raw[-2:] == ["data: [DONE]", ""]
    assert all(part.startswith((": ", "data: ")) for part in raw[:-1])
    assert not any("usage" in json.loads(part[6:]) for part in raw if part.startswith("data: {"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_idle_connections_are_kept_longer_than_clients_use_them(endpoint):
    """Else a question may be sent on a connection that is just being closed, and is lost."""
    clients = httpx.Limits(), openai.DEFAULT_CONNECTION_LIMITS
    assert endpoint.server.config.timeout_keep_alive > max(limits.keepalive_expiry for limits in clients)


def test_curl_is_answered(endpoint):
    body = json.dumps({"model": f"{NAME}-adaptive-4", "messages": QUESTION, "stream": True})
    told = ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    command = ["curl", "-sSN", "--fail", f"{endpoint.url}/chat/completions", *told]
    done = subprocess.run(command, input=body, capture_output=True, text=True)
    assert done.returncode == 0 and "\\\\boxed{4}" in done.stdout and done.stdout.endswith("data: [DONE]\n\n")


def test_the_content_is_a_finished_trace_with_the_answer_and_its_thoughts_stand_apart():
    def thinks(number):
        value = 7 if number == 0 else 4
        return f"<think>\nSo {value} it is.\n</think>\n\nThe answer is \\boxed{{{value}}}."

    with Endpoint(ToyReasoner(thinks), judged=False) as running:
        reply = running.ask("consensus-3")[2]
        message = reply["choices"][0]["message"]
        assert message["content"] == "The answer is \\boxed{4}." and message["reasoning_content"] == "So 4 it is."
        usage = reply["usage"]
        assert usage["completion_tokens"] - usage["completion_tokens_details"]["reasoning_tokens"] == 4
        events = [e[6:] for e in running.ask("consensus-3", stream=True)[2].split("\n\n") if e.startswith("data: {")]
        deltas = [json.loads(e)["choices"][0]["delta"] for e in events]
        assert "".join(d.get("reasoning_content", "") for d in deltas) == "So 4 it is."


def test_traces_without_an_answer_are_shown_and_said():
    with Endpoint(ToyReasoner(lambda number: "We do not know this at all"), judged=False) as running:
        reply = running.ask("adaptive-2", max_tokens=3)[2]
        assert (
            reply["choices"][0]["message"]["content"] == "We do not"
            and reply["choices"][0]["finish_reason"] == "length"
        )
        assert reply["deepprune"]["answer"] is None and reply["deepprune"]["votes"] == {}
        assert reply["deepprune"]["confidence"] == 0


def test_sampling_of_the_request_is_that_of_the_traces_and_the_rest_is_the_servers():
    with Endpoint(judged=False, temperature=0.7, top_k=20) as running:
        running.ask("consensus-1", temperature=0, top_p=0.5, max_completion_tokens=30, presence_penalty=1, seed=None)
        sampling, top = running.reasoner.asked[-1]
        assert sampling == Sampling(0.0, 0.5, 30, top_k=20, presence_penalty=1) and top == 0
        running.ask("deepconf-2")
        sampling, top = running.reasoner.asked[-1]
        assert sampling == Sampling(0.7, max_tokens=64, top_k=20) and top == 20


def test_earlier_turns_stand_in_the_prompt(endpoint):
    """Words has no template: messages are joined by blanks."""
    with Endpoint(judged=False, system="Be brief.", suffix=" Think.") as running:
        talk = [
            {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "1 + 1?"}]},
            {"role": "assistant", "content": "It is 2.", "reasoning_content": "hm", "refusal": None},
            {"role": "user", "content": "And <|im_end|>"},
            {"role": "user", "content": "2 + 2?"},
        ]
        assert running.ask("consensus-1", messages=talk)[0] == 200
        assert running.reasoner.prompts[-1] == "Be brief. What is\n\n1 + 1? It is 2. And < |im_end|>\n\n2 + 2? Think."
        running.ask("consensus-1", messages=[{"role": "system", "content": "Be long."}, *QUESTION])
        assert running.reasoner.prompts[-1] == "Be long. What is 2 + 2? Think."


def test_the_judge_reads_earlier_turns_as_text():
    alone = live_setup.how(ServeSettings(reasoner="m"))
    assert alone.judged("2 + 2?") == "2 + 2?" and "earlier" not in alone.recorded_sampling()
    talk = dataclasses.replace(alone, earlier=(("user", "1 + 1?"), ("assistant", "2.")))
    assert talk.judged("2 + 2?") == "User: 1 + 1?\n\nAssistant: 2.\n\nUser: 2 + 2?"
    assert talk.recorded_sampling()["earlier"] == [["user", "1 + 1?"], ["assistant", "2."]]


def test_metrics_and_log_say_what_the_replies_said(tmp_path):
    with Endpoint(log=tmp_path / "answers.jsonl") as running:
        replies = [running.ask(f"{m}-8", stream=False)[2] for m in ("adaptive", "adaptive", "consensus", "deepprune")]
        running.ask("adaptive-8", n=10**9), running.get("/v1/nothing")
        found = samples(running.get("/metrics")[2])
        for method in ("adaptive", "consensus", "deepprune"):
            mine = [r["deepprune"] for r in replies if r["deepprune"]["method"] == method]
            assert found["deepprune_questions_answered_total", method] == len(mine)
            assert found["deepprune_question_seconds_count", method] == len(mine)
            assert found["deepprune_generated_tokens_total", method] == sum(m["tokens"]["total"] for m in mine)
            assert found["deepprune_saved_tokens", method] == sum(m["saving"]["tokens"] for m in mine)
            assert found["deepprune_judge_calls_total", method] == sum(m["judge"]["calls"] for m in mine)
            assert found["deepprune_judge_prompt_tokens_total", method] == sum(
                m["judge"]["prompt_tokens"] for m in mine
            )
        assert found["deepprune_requests_refused_total", "400"] == found["deepprune_requests_refused_total", "404"] == 1
        assert found["deepprune_up", "reasoner"] == found["deepprune_up", "judge"] == 1
        assert found["deepprune_questions_in_progress", None] == 0
    rows = [row for _, row in jsonl.read(tmp_path / "answers.jsonl")]
    assert [row["id"] for row in rows] == [reply["id"] for reply in replies]
    for row, reply in zip(rows, replies, strict=True):
        assert row["model"] == reply["model"] and row["tokens"] == reply["deepprune"]["tokens"]
        assert row["votes"] == reply["deepprune"]["votes"] and row["seconds"] == reply["deepprune"]["seconds"]
        assert "messages" not in row and "content" not in row


def test_prompts_are_logged_only_if_that_is_asked_for(tmp_path):
    with Endpoint(log=tmp_path / "answers.jsonl", log_prompts=True, judged=False) as running:
        reply = running.ask("consensus-2")[2]
    ((_, row),) = jsonl.read(tmp_path / "answers.jsonl")
    assert row["messages"] == QUESTION and row["content"] == reply["choices"][0]["message"]["content"]


@contextlib.contextmanager
def asking(running, **more):
    """A question that is in progress; its client hangs up at the end of the block."""
    body = json.dumps({"model": f"{NAME}-consensus-8", "messages": QUESTION} | more).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(running.listener.getsockname()) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        until(lambda: running.reasoner.open_now == 8)
        yield


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_stops_its_requests(tmp_path, stream):
    slow = ToyReasoner(lambda number: "word " * 5000 + "\\boxed{4}", pace=0.02)
    with Endpoint(slow, log=tmp_path / "answers.jsonl", judged=False, max_tokens=9999) as running:
        with asking(running, stream=stream):
            pass
        until(lambda: slow.open_now == 0)
        until(lambda: samples(running.get("/metrics")[2]).get(("deepprune_hang_ups_total", "consensus")) == 1)
        made = slow.made
        assert samples(running.get("/metrics")[2])["deepprune_unanswered_tokens_total", "consensus"] == made
        assert made < 8 * 4000 and running.get("/health")[2]["questions"] == 0
        time.sleep(0.1)
        assert slow.made == made
        slow.text = wrong_at_times
        assert running.ask("consensus-2")[0] == 200
    assert len(list(jsonl.read(tmp_path / "answers.jsonl"))) == 1


def test_past_the_limit_of_questions_clients_are_told_to_come_again():
    slow = ToyReasoner(lambda number: "word " * 5000 + "\\boxed{4}", pace=0.02)
    with Endpoint(slow, judged=False, questions=1, max_tokens=9999) as running:
        with asking(running):
            status, headers, reply = running.ask("consensus-1")
            assert status == 429 and 1 <= int(headers["Retry-After"]) <= 60
            assert reply["error"]["type"] == "rate_limit_error" and reply["error"]["code"] == "rate_limit_exceeded"
        until(lambda: running.get("/health")[2]["questions"] == 0)
        slow.text = wrong_at_times
        assert running.ask("consensus-1")[0] == 200


def test_a_question_that_takes_too_long_is_ended():
    slow = ToyReasoner(lambda number: "word " * 5000 + "\\boxed{4}", pace=0.02)
    with Endpoint(slow, judged=False, question_seconds=0.2, max_tokens=9999) as running:
        status, _, reply = running.ask("consensus-2")
        assert status == 504 and "within 0.2 s" in reply["error"]["message"] and slow.open_now == 0


def test_a_judge_that_is_gone_is_said_and_comes_back():
    with Endpoint() as running:
        assert running.ask("deepprune-4")[0] == 200
        running.alive.clear()
        status, headers, reply = running.ask("deepprune-4")
        assert status == 503 and int(headers["Retry-After"]) >= 1
        assert reply["error"]["type"] == "server_error" and "The judge " in reply["error"]["message"]
        assert "secret" not in reply["error"]["message"]
        until(lambda: "no judge can be opened" in running.get("/health")[2]["judge"].get("reason", ""))
        assert running.get("/health")[0] == 200 and running.get("/health")[2]["status"] == "degraded"
        assert samples(running.get("/metrics")[2])["deepprune_up", "judge"] == 0
        assert running.ask("deepprune-4", stream=True)[0] == 503 and running.ask("adaptive-4")[0] == 200
        running.alive.append(True)
        until(lambda: running.get("/health")[2]["status"] == "ok")
        assert running.ask("deepprune-4")[0] == 200


def test_an_engine_that_dies_in_the_middle_is_said_and_comes_back():
    slow = ToyReasoner(lambda number: "word " * 5000 + "\\boxed{4}", pace=0.02)
    with Endpoint(slow, judged=False, max_tokens=9999) as running:
        replies = {}

        async def both():
            asking = [asyncio.to_thread(running.ask, "consensus-2", stream=stream) for stream in (False, True)]
            for stream, reply in zip((False, True), await asyncio.gather(*asking, killed()), strict=False):
                replies[stream] = reply

        async def killed():
            while slow.open_now < 4:
                await asyncio.sleep(0.01)
            slow.dead = True

        asyncio.run(both())
        status, _, reply = replies[False]
        assert status == 503 and "the engine died" in reply["error"]["message"]
        status, _, text = replies[True]  # its headers had been sent
        (event,) = [json.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: {")]
        assert status == 200 and event["error"]["code"] == "unavailable" and text.endswith("data: [DONE]\n\n")
        until(lambda: running.get("/health")[0] == 503)
        assert running.get("/health")[2]["reasoner"]["state"] == "gone" and running.ask("adaptive-2")[0] == 503
        slow.dead, slow.text = False, wrong_at_times
        until(lambda: running.get("/health")[0] == 200)
        assert running.ask("adaptive-2")[0] == 200


def test_a_log_that_cannot_be_written_leaves_no_question_answered(tmp_path):
    with Endpoint(log=tmp_path / "answers.jsonl", judged=False) as running:
        running.server.desk.log.file.close()
        running.server.desk.log.file = open("/dev/full", "wb", buffering=0)
        status, _, reply = running.ask("consensus-2")
        assert status == 500 and "answers.jsonl" in reply["error"]["message"]


def test_a_server_that_is_told_to_end_lets_questions_end_and_takes_none():
    slow = ToyReasoner(lambda number: "word " * 40 + "\\boxed{4}", pace=0.05)
    with Endpoint(slow, judged=False) as running:

        async def both():
            asking = asyncio.create_task(asyncio.to_thread(running.ask, "consensus-2"))
            while not slow.open_now:
                await asyncio.sleep(0.01)
            running.server.should_exit = True
            until(lambda: running.server.desk.stopping)
            assert running.ask("consensus-2")[0] == 503 and running.get("/health")[2]["status"] == "stopping"
            return await asking

        assert asyncio.run(both())[0] == 200
        running.thread.join(60)
        assert not running.thread.is_alive()


def test_questions_that_outlast_the_grace_are_ended_with_a_word():
    slow = ToyReasoner(lambda number: "word " * 5000 + "\\boxed{4}", pace=0.02)
    with Endpoint(slow, judged=False, grace_seconds=0.1, max_tokens=9999) as running:

        async def both():
            asking = asyncio.create_task(asyncio.to_thread(running.ask, "consensus-2"))
            while not slow.open_now:
                await asyncio.sleep(0.01)
            running.server.should_exit = True
            return await asking

        status, _, reply = asyncio.run(both())
        assert status == 503 and "being stopped" in reply["error"]["message"]
        running.thread.join(60)
        assert not running.thread.is_alive() and slow.open_now == 0

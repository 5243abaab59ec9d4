"""The live driver with a made-up reasoner and judge: what is generated, held, aborted, finished and counted."""

import asyncio
import dataclasses
import random

import pytest
from conftest import make_problem

from deepprune.data import reasoning
from deepprune.data.truncation import Truncation
from deepprune.engines.reasoners import Chunk, Reasoner, ReasonerLost, Sampling
from deepprune.judges import Judge, Request, Score
from deepprune.prune import clustering, finishing, prefixes
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.finishing import FinishSettings
from deepprune.prune.live import LiveQuestion
from deepprune.prune.live_flights import LiveTrace, decoded
from deepprune.prune.live_judging import JudgeLost, JudgeQueue
from deepprune.prune.live_traces import LiveSettings
from deepprune.prune.methods.deepprune import DeepPruneSettings

PROBLEM = make_problem(2, "4")


class Words:
    """A tokenizer whose tokens are words with the space before them; ids count up in a shared table."""

    table: list = []

    def encode(self, text, **_):
        return [self._id(w) for w in text.split(" ")]

    def _id(self, word):
        if word not in self.table:
            self.table.append(word)
        return self.table.index(word)

    def decode(self, ids, **_):
        return " ".join(self.table[i] for i in ids)

    def apply_chat_template(self, chat, **_):
        return " ".join(m["content"] for m in chat)


class MadeUp(Reasoner):
    """Generates planned texts a word at a time; counts what it generates and what runs."""

    name = "made-up-1B"

    def __init__(self, texts, fail_at=None, seed=0):
        self.tokenizer, self.texts, self.count, self.open_now, self.most = Words(), list(texts), 0, 0, 0
        self.fail_at, self.plans, self.rng = fail_at, {}, random.Random(seed)
        self.start = None

    async def stream(self, prompt, sampling, max_tokens, stop, top=0):
        self.start = self.start or len(prompt)
        begun = tuple(prompt[self.start :])
        text = self.plans.get(begun) if begun else self.texts.pop(0)
        words = text.split(" ")
        left = words[len(begun) : len(begun) + max_tokens]
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        generated = list(begun)
        try:
            for i, word in enumerate(left):
                await asyncio.sleep(self.rng.random() / 2000)
                self.count += 1
                if self.count == self.fail_at:
                    raise ReasonerLost("the engine died")
                generated.append(self.tokenizer._id(word))
                self.plans[tuple(generated)] = text
                last = i + 1 == len(left)
                reason = ("stop" if len(begun) + len(left) == len(words) else "length") if last else None
                piece = word if len(generated) == 1 else " " + word
                likely = [[-self.sureness(text, len(generated))]] if top else []
                yield Chunk(piece, [generated[-1]], reason, likely)
                if stop.is_set() and not last:
                    yield Chunk("", [], "abort")
                    return
        finally:
            self.open_now -= 1

    def sureness(self, text, position):
        """A token's confidence: that of a wrong trace falls."""
        return 5.0 if "{4}" in text else 5.0 / (1 + position / 8)

    async def generated(self):
        return self.count

    async def running(self):
        return self.open_now


class Noisy(Judge):
    """The same answer in the prefix: probably the same. Its score depends on the two prefixes alone."""

    name, parameters = "noisy", 100

    def __init__(self, fail_after=None):
        self.asked, self.fail_after = 0, fail_after

    def _stream(self, requests):
        for position, r in enumerate(list(requests)):
            self.asked += 1
            if self.fail_after is not None and self.asked > self.fail_after:
                raise RuntimeError("http://me:secret@host: connection refused")
            same = r.prefix_a.split()[1] == r.prefix_b.split()[1]
            noise = random.Random(r.prefix_a + r.prefix_b).random()
            yield position, Score(0.6 * same + 0.4 * noise, 50, 20)


def texts(n, seed=0):
    rng = random.Random(seed)
    planned = []
    for i in range(n):
        kind = rng.choice("aab")
        answer = "4" if kind == "a" else str(5 + i % 2)
        filler = " ".join(rng.choices(["we", "add", "two"], k=rng.randrange(5, 25)))
        planned.append(f"T{i} {kind} first {filler} so {filler} thus it is \\boxed{{{answer}}}")
    return planned


def settings(**more):
    finish = more.pop("finish", FinishSettings(k2=4, k3=4))
    return LiveSettings(
        more.pop("n", 16),
        Truncation("words", 2),
        "deepprune",
        DeepPruneSettings(ClusterSettings(k1=3), finish),
        Sampling(max_tokens=200),
        " suffix",
        **more,
    )


def run(how, judge, reasoner, slots=8):
    events, traces = [], []

    async def main():
        question = LiveQuestion(
            PROBLEM, reasoner, JudgeQueue(judge), how, asyncio.Semaphore(slots), None, events.append, traces.append
        )
        try:
            return question, await question.run()
        finally:
            assert await reasoner.running() == 0  # also after an error

    return *asyncio.run(main()), events, traces


@pytest.mark.parametrize("rule", finishing.RULES)
def test_only_what_is_needed_is_generated_and_every_token_is_counted(rule):
    reasoner = MadeUp(texts(16))
    question, done, events, traces = run(
        settings(finish=FinishSettings(rule, k2=4, k3=4, start=4, batch=2)), Noisy(), reasoner
    )
    assert done.tokens["total"] == reasoner.count == done.tokens["prefix"] + done.tokens["rest"]
    whole = sum(len(t.split(" ")) for t in texts(16))
    assert done.tokens["total"] < whole and 0 < done.tokens["sequential"] <= done.tokens["total"]
    assert reasoner.most <= 8
    by_id = {t.trace_id: t for t in traces}
    assert set(done.finished) <= set(by_id) and len(done.finished) <= 4
    for trace in traces:  # finished traces are whole, as planned, and graded
        assert trace.text in texts(16) and trace.finish_reason == "stop" and trace.answer is not None
    held = [t for t in question.traces.arrived if not t.whole]
    assert held, "nothing was pruned"
    for trace in held:  # an unfinished one stops at most a word after its second reasoning word, and has no answer
        assert trace.text.startswith(trace.prefix) and len(trace.text.split()) - len(trace.prefix.split()) <= 2
        assert question.traces.record(trace).answer is None and question.traces.record(trace).finish_reason == "abort"
    assert {e["event"] for e in events} >= {"started", "held", "judged", "pruned", "answered"}
    assert sum(e["event"] == "started" for e in events) == len(question.traces.arrived)


def test_channels_become_a_think_block_as_in_recorded_traces():
    """gpt-oss: the words of a prefix are counted in the reasoning, and the answer is the final channel's."""
    start, end = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"
    raw = [f"{start}T{i} a first we so add thus \\boxed{{9}} {end}It is \\boxed{{4}}<|return|>" for i in range(6)]
    plain = [reasoning.plain(text) for text in raw]
    assert plain[0] == "<think>\nT0 a first we so add thus \\boxed{9}\n</think>\n\nIt is \\boxed{4}"
    reasoner = MadeUp(raw)
    reasoner.channels = True
    question, done, _, traces = run(settings(n=6, finish=FinishSettings(k2=2, k3=2)), Noisy(), reasoner)
    assert done.answer == "4" and len(traces) == 2 and {t.text for t in traces} <= set(plain)
    for trace in question.traces.arrived:
        assert trace.prefix in {Truncation("words", 2).cut(text) for text in plain} and not trace.read_whole
    assert "<|" not in "".join(question.traces.record(t).text for t in question.traces.arrived)


def test_clusters_and_vote_are_those_of_the_recorded_prefixes():
    """The same pure clustering and finish rule on what was recorded, in the order of arrival."""
    judge = Noisy()
    question, done, _, _ = run(settings(), judge, MadeUp(texts(16)))
    recorded = [question.traces.record(t) for t in question.traces.arrived]
    cut = [Truncation("words", 2).cut(t.text) for t in recorded]

    def score(batch):
        return [s.p_same for s in Noisy().score([Request("", cut[a], cut[b], "", "") for _, a, b in batch])]

    clusters = clustering.lockstep({"q": clustering.greedy(16, ClusterSettings(k1=3), PROBLEM.problem_id)}, score)["q"]
    assert [[recorded[i].trace_id for i in c] for c in clusters] == done.clusters
    assert [t.sample_index for t in recorded] == list(range(16))
    largest = max(clusters, key=len)[:4]
    assert done.finished == [recorded[i].trace_id for i in largest]
    assert done.judge_calls == judge.asked and done.judge_tokens == 50 * judge.asked


def test_a_lost_judge_stops_or_goes_on_as_consensus():
    with pytest.raises(JudgeLost, match="noisy failed: http://host: connection refused"):
        run(settings(), Noisy(fail_after=5), MadeUp(texts(16)))
    question, done, events, traces = run(settings(on_judge_failure="consensus"), Noisy(fail_after=5), MadeUp(texts(16)))
    assert len(traces) == len(done.finished) == 16 and all(t.finish_reason == "stop" for t in traces)
    assert done.settings["judge_failed"].endswith("connection refused") and done.answer == "4" and done.correct
    assert done.tokens["total"] == sum(len(t.split(" ")) for t in texts(16))
    assert [e["event"] for e in events].count("judge lost") == 1
    assert "secret" not in str([done, events])


def test_a_lost_reasoner_is_an_error_and_what_ended_before_is_kept():
    short = ["T0 a done \\boxed{4}"] * 3 + texts(13)
    traces: list = []
    reasoner = MadeUp(short, fail_at=150)

    async def main():
        question = LiveQuestion(
            PROBLEM,
            reasoner,
            JudgeQueue(Noisy()),
            settings(),
            asyncio.Semaphore(8),
            None,
            keep=traces.append,
        )
        await question.run()

    with pytest.raises(ReasonerLost, match="the engine died"):
        asyncio.run(main())
    assert traces and all(t.finish_reason == "stop" for t in traces) and reasoner.open_now == 0


def test_many_questions_share_judge_batches():
    judge = Noisy()
    batches = []
    judge_score = judge.score
    judge.score = lambda requests: batches.append(len(requests)) or judge_score(requests)

    async def main():
        queue, slots = JudgeQueue(judge), asyncio.Semaphore(32)
        questions = [
            LiveQuestion(
                dataclasses.replace(PROBLEM, problem_id=f"p{i}"),
                MadeUp(texts(8, i)),
                queue,
                settings(n=8),
                slots,
                None,
            )
            for i in range(4)
        ]
        return await asyncio.gather(*(q.run() for q in questions))

    done = asyncio.run(main())
    assert len(done) == 4 and sum(batches) == judge.asked == sum(d.judge_calls for d in done)
    assert max(batches) > 3


def test_no_two_runs_give_a_trace_the_same_id():
    """Each run samples anew: two runs' records may lie in one file."""
    ids = [
        {question.traces.record(t).trace_id for t in question.traces.arrived}
        for question, *_ in (run(settings(), Noisy(), MadeUp(texts(16))) for _ in range(2))
    ]
    assert len(ids[0]) == len(ids[1]) == 16 and not ids[0] & ids[1]


@pytest.mark.parametrize("rule", finishing.RULES)
def test_traces_that_all_end_before_their_prefix_is_complete(rule):
    short = [f"T{i} {'ab'[i % 2]} is \\boxed{{{4 + i % 2}}}" for i in range(16)]
    question, done, _, traces = run(settings(finish=FinishSettings(rule, k2=4, k3=4, start=16)), Noisy(), MadeUp(short))
    assert done.tokens["rest"] == 0 and done.tokens["prefix"] == done.tokens["total"] == done.tokens["consensus"]
    assert len(traces) == 16 and done.settings["live"] and all(t.read_whole for t in question.traces.arrived)
    line = prefixes.whole_line((t.read_whole, t.record.answer) for t in question.traces.arrived)
    assert (
        line.startswith("traces that end before the cut: 16 of 16 (100.0%)") and "16 of them with their answer" in line
    )


def test_a_request_that_ends_by_itself_is_no_held_trace():
    """An engine that drops a request (out of memory, shut down) has not completed its prefix."""

    class Dropping(MadeUp):
        async def stream(self, prompt, sampling, max_tokens, stop):
            yield Chunk("T0 a", self.tokenizer.encode("T0 a"))
            yield Chunk("", [], "abort")

    with pytest.raises(ReasonerLost, match="made-up-1B: a request ended before its trace did \\(abort\\)"):
        run(settings(), Noisy(), Dropping(texts(16)))


def test_the_judge_is_asked_by_question_and_trace():
    asked = []

    class Listening(Noisy):
        def stream(self, requests):
            requests = list(requests)
            asked.extend(requests)
            return super().stream(requests)

    run(settings(n=4), Listening(), MadeUp(texts(4)))
    assert asked and all(r.trace_a.startswith(PROBLEM.problem_id + "/") and r.trace_a != r.trace_b for r in asked)


def test_the_token_that_ends_a_trace_is_not_in_its_text():
    """Of tokenizers that do not call it special; an engine leaves it out too."""
    question, *_ = run(settings(n=4), Noisy(), MadeUp(texts(4)))
    words = question.traces.reasoner.tokenizer
    trace = LiveTrace(0, pieces=["It", " is 4."], token_ids=words.encode("It is 4. <end>"), finish_reason="stop")
    assert decoded(trace, words).rstrip() == "It is 4."
    cut = LiveTrace(0, pieces=["It", " is 4."], token_ids=words.encode("It is 4."), finish_reason="length")
    assert decoded(cut, words) == "It is 4."


def test_a_trace_that_reaches_the_limit_while_held_is_not_resumed():
    how = dataclasses.replace(settings(n=4, finish=FinishSettings(k2=4, k3=4)), sampling=Sampling(max_tokens=9))
    _, done, _, traces = run(how, Noisy(), MadeUp(texts(4)))
    assert all(len(t.text.split(" ")) <= 9 for t in traces) and {t.finish_reason for t in traces} == {"length"}
    assert done.answer is None and done.correct is None

"""The judge on a server: what it answers is looked at before it is believed."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import toys
from toys import requests
from transformers import AutoTokenizer

from deepprune import judges
from deepprune.judges import profiles
from deepprune.judges.pair_prompts import PairPrompts

TOPS = {1: -0.105, 2: -2.5, 3: -5.0, 4: -6.0, 5: -7.0}  # nine tenths for the first


@pytest.mark.parametrize(
    ("labels", "top", "says"),
    [({1: -0.105, 2: -2.5}, TOPS, None), ({1: -0.105, 9: -11.0}, TOPS, None),
     ({1: -0.02, 9: -4.0}, TOPS, r"token 9 is -4.000 .*, at most -7.000 where nothing is"),  # the labels alone
     ({1: -0.7, 2: -0.7}, TOPS, r"token 1 is -0.700 .*, -0.105 where nothing is"),
     ({1: -0.1, 2: -2.5}, TOPS | {3: -0.2}, "probability of 1.8"),
     ({1: 12.0, 2: 9.0}, {1: 12.0, 2: 9.0}, "probability of"),
     ({1: -0.1, 2: -2.4}, {1: -0.1, 2: -2.4, 3: -9999.0}, "struck out")],
)  # fmt: skip
def test_log_probabilities_that_are_not_over_the_whole_vocabulary_are_noticed(labels, top, says):
    import re

    from deepprune.judges.server import not_whole

    problem = not_whole(labels, top)
    assert problem is None if says is None else re.search(says, problem)


@pytest.mark.parametrize(("dtype", "is_rounded"), [("bfloat16", True), ("float16", True), ("float32", False)])
def test_a_server_that_rounds_its_logits_is_noticed(dtype, is_rounded):
    import torch

    from deepprune.judges.server import rounded

    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        logits = 8 + 12 * torch.rand(500, generator=generator)
        logprobs = logits.to(getattr(torch, dtype)).float().log_softmax(-1).topk(5).values
        assert rounded(logprobs.tolist()) is (is_rounded and len(set(logprobs.tolist())) > 3)


class MadeUpServer:
    """In place of the OpenAI client: answers with the log-probabilities of a small vocabulary, as it is told."""

    def __init__(self, logprobs, labels_alone=False, knows_ids=True):
        self.logprobs, self.labels_alone, self.knows_ids, self.sent = logprobs, labels_alone, knows_ids, []
        self.models = SimpleNamespace(list=lambda: SimpleNamespace(data=[SimpleNamespace(id="judge")]))
        self.completions, self.close = SimpleNamespace(create=self.answer), lambda: None

    def answer(self, *, logprobs, extra_body, **sent):
        self.sent.append(sent | extra_body)
        wanted = extra_body.get("logprob_token_ids") if self.knows_ids else None
        at = self.logprobs
        if wanted and self.labels_alone:  # as if only these might be answered
            total = math.log(sum(math.exp(at[token]) for token in wanted))
            at = {token: at[token] - total for token in wanted}
        top = wanted or sorted(at, key=at.get, reverse=True)[:logprobs]
        said = {f"token_id:{token}": at[token] for token in top}
        return SimpleNamespace(choices=[SimpleNamespace(logprobs=SimpleNamespace(top_logprobs=[said]))], usage=None)


@pytest.mark.parametrize(
    ("probabilities", "options", "says"),
    [((0.6, 0.3), {}, None), ((0.02, 0.01), {}, r"labels \(no, yes\) have 0.030 .*rather answer '.*' 0\.\d\d"),
     ((0.02, 0.01), {"labels_alone": True}, "where the labels are asked for, .*whole vocabulary.*raw_logprobs"),
     ((0.001, 0.01), {"knows_ids": False}, "no log-probability of its label 'no'"),
     ((None, 0.3), {}, "weights are not finite")],
)  # fmt: skip
def test_what_a_server_answers_is_looked_at(tiny, monkeypatch, capsys, probabilities, options, says):
    import openai

    from deepprune.judges.server import ServerJudge

    no, yes = toys.label_ids(AutoTokenizer.from_pretrained(tiny))
    rest = 1 - sum(p or 0.0 for p in probabilities)
    others = {
        token: math.log(rest * share)
        for token, share in ((900, 0.513), (901, 0.212), (902, 0.141), (903, 0.081), (904, 0.053))
    }
    labels = {token: None if p is None else math.log(p) for token, p in zip((no, yes), probabilities, strict=True)}
    server = MadeUpServer(others | labels, **options)
    monkeypatch.setattr(openai, "OpenAI", lambda **_: server)
    judge = ServerJudge(tiny, judges.JudgeOptions(judge_url=["http://127.0.0.1:1/v1"]))
    judge.least_label_mass = 0.5
    asked = requests()[:6]
    if says:
        with pytest.raises(judges.NotAJudge, match=says):
            judge.score(asked)
        return
    assert [s.p_same for s in judge.score(asked)] == pytest.approx([1 / 3] * 6)
    assert (
        judge.label_mass["mean"] == pytest.approx(0.9, abs=1e-3) and judge.calls_beside == 2 and len(server.sent) == 8
    )
    assert all(
        s["repetition_penalty"] == 1.0 and s["temperature"] == 0.0 and "allowed_token_ids" not in s for s in server.sent
    )
    assert "rounded" not in capsys.readouterr().err
    # Logits in bfloat16: their steps are seen in the first answer.
    server.logprobs = {token: round(value * 16) / 16 - 0.01 for token, value in server.logprobs.items()}
    judge.checked = False
    judge.score(asked)
    sent, judge.fleet.servers[0].context = len(server.sent), 40  # as vLLM says in its list of models
    with pytest.raises(judges.PromptTooLong, match="reads at most 39"):
        judge.score(asked)
    assert len(server.sent) == sent
    assert """--hf-overrides '{"head_dtype": "float32"}'""" in capsys.readouterr().err
    judge.close()


def test_labels_of_several_tokens_are_asked_token_by_token(tiny, monkeypatch, tmp_path):
    import openai

    from deepprune.judges.server import ServerJudge

    profile = dataclasses.replace(profiles.DEFAULT, different=" not equal", same=" all equal")
    profiles.save(profile, tmp_path / "own.yaml")
    prompts = PairPrompts(profile, AutoTokenizer.from_pretrained(tiny))
    (different, last), (same, _) = prompts.labels
    shares = {different: 0.2, same: 0.3, last: 0.4, 900: 0.06, 901: 0.03, 902: 0.01}
    server = MadeUpServer({token: math.log(share) for token, share in shares.items()})
    monkeypatch.setattr(openai, "OpenAI", lambda **_: server)
    judge = ServerJudge(
        tiny, judges.JudgeOptions(judge_url=["http://127.0.0.1:1/v1"], judge_profile=str(tmp_path / "own.yaml"))
    )
    (score,) = judge.score(requests()[:1])
    assert score.p_same == pytest.approx(0.6) and score.label_mass == pytest.approx(0.2 * 0.4 + 0.3 * 0.4)
    ids = prompts.ids(requests()[0])
    asked = [sent["prompt"] for sent in server.sent[judge.calls_beside :]]
    assert asked == [ids, [*ids, different], [*ids, same]] and score.prompt_tokens == len(ids) + 2
    judge.close()

"""The judges on a small real model: vLLM and transformers agree, the limits are limits."""

import json
import math
from types import SimpleNamespace

import pytest
import toys
from conftest import engine_scores
from toys import requests
from transformers import AutoTokenizer

from deepprune import judges
from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.judges import Request, pair_prompts
from deepprune.judges.profiles import DEFAULT

REFUSED = """
def refused():
    judge._masses.clear()
    try:
        return len(judge.score(requests))
    except judges.NotAJudge as error:
        return str(error)

judge.least_label_mass = 0.5
said = [judge.label_mass, [s.label_mass for s in scores], refused()]
judge.least_label_mass = 0.0
judge._masses.clear()
said.append([s.p_same for s in judge.score(requests)])  # the engine goes on after a refusal
import poison  # a module of its own, so that the engine's process finds the function
judge.llm.apply_model(poison.fill)
json.dump([*said, refused()], open(out + ".said", "w"))
"""


def test_vllm_equals_transformers_and_uses_its_prefix_cache(tmp_path, smol):
    asked = requests()
    (tmp_path / "poison.py").write_text("def fill(model):\n    model.model.norm.weight.data.fill_(float('nan'))\n")
    fast = engine_scores(tmp_path, "vllm", smol, asked, more=REFUSED)
    reference = judges.open_judge("transformers", smol, dtype="float32", batch=5)
    slow = reference.score(asked)
    # The labels' probability is that among all tokens; where it is small, or a number is none, there is no judge.
    summary, masses, refusal, again, poisoned = json.loads((tmp_path / "scores.json.said").read_text())
    assert masses == pytest.approx([s.label_mass for s in slow], rel=0.05, abs=1e-4)
    assert (
        summary["mean"] == pytest.approx(sum(masses) / 24, abs=1e-3)
        and summary["prompts"] == 24
        and summary["mean"] < 0.1
    )
    likeliest = reference._rather(asked[0])[0][0]
    assert f"would rather answer {likeliest!r} 0." in refusal and "on the first 24 prompts" in refusal
    assert again == pytest.approx([p_same for p_same, *_ in fast], abs=1e-3)
    assert "p_same = nan" in poisoned and "did the training diverge" in poisoned
    assert len({round(s.p_same, 4) for s in slow}) > 10  # the comparison is not of constants
    for (p_same, prompt_tokens, _, _), reference in zip(fast, slow, strict=True):
        assert p_same == pytest.approx(reference.p_same, abs=0.02)
        assert prompt_tokens == reference.prompt_tokens
    assert sum(cached for _, _, cached, _ in fast) > 0.2 * sum(n for _, n, _, _ in fast)


def test_p_same_is_the_softmax_over_the_two_labels(smol):
    """Against one unbatched forward pass of the whole vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM

    request = requests()[5]
    tokenizer = AutoTokenizer.from_pretrained(smol)
    model = AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32)
    ids = toys.prompt_ids(tokenizer, request.question, request.prefix_a, request.prefix_b)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    no, yes = (tokenizer.convert_tokens_to_ids(label) for label in DEFAULT.labels)
    expected = (logits[yes].exp() / (logits[yes].exp() + logits[no].exp())).item()
    scores = judges.open_judge("transformers", smol, dtype="float32", batch=3).score(requests()[:8])
    assert scores[5].p_same == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_labels_do_not_tie_in_bfloat16(tmp_path, tiny, kind):
    """Two large label logits with a small difference, as a trained judge has them: rounded to bfloat16 they tie."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    labels = list(toys.label_ids(tokenizer))
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[labels] = 10.0 + 0.01 * model.lm_head.weight[labels].sign()
        model.lm_head.weight[labels[1]] += 0.0625 * model.lm_head.weight[5].sign()
    model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    asked, expected, coarse = requests(), [], set()
    for r in asked:
        ids = toys.prompt_ids(tokenizer, r.question, r.prefix_a, r.prefix_b)
        with torch.no_grad():
            last = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        rows = model.lm_head.weight[labels]
        expected.append((rows.double() @ last.double()).softmax(0)[1].item())
        coarse.add((rows @ last).double().softmax(0)[1].item())
    scores = [p_same for p_same, *_ in engine_scores(tmp_path, kind, str(tmp_path / "judge"), asked, dtype="bfloat16")]
    assert len(set(scores)) > 2 * len(coarse)
    assert scores == pytest.approx(expected, abs=0.05)


def test_prompt_puts_what_repeats_first(smol):
    tokenizer = AutoTokenizer.from_pretrained(smol)
    a = toys.prompt_ids(tokenizer, "How many?", "shared representative", "one {new} trace")
    b = toys.prompt_ids(tokenizer, "How many?", "shared representative", "another {prefix_a}")
    common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    text = tokenizer.decode(a[:common])
    assert "How many?" in text and "shared representative" in text and "another" not in text
    assert "another {prefix_a}" in tokenizer.decode(b)


@pytest.mark.parametrize("limit", [None, 600])
def test_a_prompt_that_the_judge_cannot_read_is_refused_before_any_is_scored(tiny, limit):
    """The model's positions, or fewer where that is asked for: past them a model answers something all the same."""
    judge = judges.open_judge("transformers", tiny, dtype="float32", max_model_len=limit)
    context = limit or judge.model.config.max_position_embeddings

    def tokens(digits):
        return len(judge.prompts.ids(Request("7" * digits, "", "", "t/0", "t/1")))

    fits = next(digits for digits in range(context - 1 - tokens(0), 0, -1) if tokens(digits) < context)
    assert 0 < judge.score([Request("7" * fits, "", "", "t/0", "t/1")])[0].p_same < 1
    with pytest.raises(judges.PromptTooLong, match=f"traces t/2, t/3.*reads at most {context - 1}"):
        judge.score([Request("7", "", "", "t/0", "t/1"), Request("7" * (fits + 1), "", "", "t/2", "t/3")])


def test_labels_are_one_token(smol):
    different, same = toys.label_ids(AutoTokenizer.from_pretrained(smol))
    assert different != same


@pytest.mark.parametrize("has", [True, False])
def test_every_judge_computes_in_what_the_processor_has(monkeypatch, tiny, has):
    """dtype auto, on transformers and on vLLM (whose engine is not started): the same type; logits stay float32."""
    import torch

    from deepprune.engines import engine

    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: has)
    dtype = "bfloat16" if has else "float32"
    judge = judges.open_judge("transformers", tiny)
    assert judge.model.model.layers[0].mlp.up_proj.weight.dtype == getattr(torch, dtype)
    with torch.inference_mode():
        assert judge.model(torch.tensor([[1, 2, 3]])).logits.dtype == torch.float32
    assert engine.machine_options("auto", 0.9)["dtype"] == dtype
    asked = {}

    def start(folder, **options):
        asked.update(options, dtype=engine.machine_options(options["dtype"], 0.9)["dtype"])
        raise UserError("not in this test")

    monkeypatch.setattr(engine, "start", start)
    with pytest.raises(UserError, match="not in this test"):
        judges.open_judge("vllm", tiny)
    assert asked["dtype"] == dtype and asked["extra"] == {"hf_overrides": {"head_dtype": "float32"}}


def test_limits():
    asked = requests()
    assert [s.p_same for s in judges.open_judge("oracle").score(asked)] == [float(r.label) for r in asked]
    scores = [s.p_same for s in judges.open_judge("random", seed=3).score(asked)]
    swapped = [Request(r.question, r.prefix_b, r.prefix_a, r.trace_b, r.trace_a) for r in asked]
    assert scores == [s.p_same for s in judges.open_judge("random", seed=3).score(swapped)]
    assert scores != [s.p_same for s in judges.open_judge("random", seed=4).score(asked)]
    assert all(0 <= s < 1 for s in scores)
    # Live, a trace is known by its place in its question: another question's traces 0 and 1 are another draw.
    live = [Request(f"question {i}", "a", "b", "0", "1") for i in range(5)]
    assert len({s.p_same for s in judges.open_judge("random").score(live)}) == 5


def test_unknown_judges_and_models():
    with pytest.raises(UserError, match="unknown judge"):
        judges.open_judge("tarot")
    with pytest.raises(UserError, match="needs a model"):
        judges.name_of("vllm")
    with pytest.raises(UserError, match="unknown model 'nobody/nothing'.*no such local folder.*not among the packaged"):
        judges.name_of("vllm", "nobody/nothing")


@pytest.mark.parametrize(
    ("this", "other", "p"), [(-1.0, -1.0, 0.5), (-0.1, -900.0, 1.0), (-900.0, -0.1, 0.0), (-math.inf, -0.1, 0.0)]
)
def test_the_better_of_two_labels(this, other, p):
    assert pair_prompts.better(this, other) == pytest.approx(p)


@pytest.mark.parametrize(
    ("this", "other"), [(math.nan, -1.0), (-1.0, math.nan), (math.nan, math.nan), (-math.inf, -math.inf)]
)
def test_a_score_that_is_no_number_is_an_error(this, other):
    with pytest.raises(judges.NotAJudge, match="no probabilities: are its weights finite"):
        judges.Score(pair_prompts.better(this, other))
    with pytest.raises(judges.NotAJudge):
        judges.Score(0.5, label_mass=math.nan)


class Said(judges.Judge):
    """Gives its labels the probabilities it was told; counts what it was asked."""

    name = "said"
    labels_shown = ("no", "yes")

    def __init__(self, masses, limit):
        self.masses_told, self.least_label_mass, self.asked = masses, limit, 0

    def _stream(self, requests):
        for position, _ in enumerate(requests):
            self.asked += 1
            yield position, judges.Score(0.25, label_mass=self.masses_told[position])

    def _rather(self, request):
        return [("Yes", 0.4), (request.trace_a, 0.1)]


def test_a_model_that_does_not_answer_with_the_labels_is_stopped_before_its_first_score():
    pairs = [Request("q", "a", "b", f"a{i}", f"b{i}") for i in range(100)]
    judge, given = Said([0.3] * 31 + [0.2] + [0.9] * 68, 0.5), []
    with pytest.raises(
        judges.NotAJudge,
        match=r"said: its labels \(no, yes\) have 0.297 .* first 32 prompts, less than 0.5; it would "
        r"rather answer 'Yes' 0.40, 'a31' 0.10\. .*--least-label-mass 0",
    ):
        given += judge.stream(pairs)
    assert not given and judge.asked == 32
    assert [p for p, _ in Said([0.3] * 100, 0.0).stream(pairs)] == list(range(100))
    # Later prompts do not count; a short first call does.
    late = Said([0.9] * 32 + [0.0] * 68, 0.5)
    assert len(late.score(pairs)) == 100 and late.label_mass == {"mean": 0.9, "least": 0.9, "prompts": 32}
    with pytest.raises(judges.NotAJudge, match="first 3 prompts"):
        Said([0.1] * 3, 0.5).score(pairs[:3])
    assert judges.open_judge("random").label_mass is None


def test_an_engine_that_is_left_early_goes_on_with_nothing_open():
    from deepprune.engines import engine

    class Engine:
        def __init__(self):
            self.open, self.aborted = [], []

        def add_request(self, name, prompt, params):
            self.open.append(name)

        def step(self):
            return [SimpleNamespace(request_id=self.open.pop(0), finished=True)]

        def abort_request(self, names):
            self.aborted += names
            self.open = [name for name in self.open if name not in names]

    stub = Engine()
    running = engine.run(SimpleNamespace(llm_engine=stub), ((str(i), None, None) for i in range(100)), window=4)
    assert [next(running)[0] for _ in range(3)] == ["0", "1", "2"]
    running.close()
    assert sorted(stub.aborted) == ["3", "4", "5"] and not stub.open
    assert [name for name, _ in engine.run(SimpleNamespace(llm_engine=stub), [("again", None, None)])] == ["again"]

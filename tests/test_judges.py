"""The judges on a small real model: vLLM and transformers agree, the limits are limits."""

import hashlib
import json
import math
from types import SimpleNamespace

import pytest
from conftest import engine_scores
from transformers import AutoTokenizer

from deepprune import judges
from deepprune.base import runtime
from deepprune.base.errors import UserError
from deepprune.judges import Request, interface, prompts

TRACE = "First we add the tens of {a} and {b}. Then we carry, so the sum is near {c}. Therefore we check {d} again."


def requests():
    """24 pairs of 3 problems; each first trace is shared by four pairs."""
    made = []
    for q in range(3):
        question = f"Ann has {17 + q} apples and buys {25 * q} more, then gives away half. How many are left?"
        for a in range(2):
            first = TRACE.format(a=q, b=a, c=q + a, d=7)
            made += [
                Request(question, first, TRACE.format(a=b, b=q, c=3 * b, d=b), f"{q}a{a}", f"{q}b{b}", b % 2)
                for b in range(4)
            ]
    return made


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
    ids = prompts.prompt_ids(tokenizer, request.question, request.prefix_a, request.prefix_b)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1].double()
    no, yes = (tokenizer.convert_tokens_to_ids(label) for label in prompts.LABELS)
    expected = (logits[yes].exp() / (logits[yes].exp() + logits[no].exp())).item()
    scores = judges.open_judge("transformers", smol, dtype="float32", batch=3).score(requests()[:8])
    assert scores[5].p_same == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_labels_do_not_tie_in_bfloat16(tmp_path, tiny, kind):
    """Two large label logits with a small difference, as a trained judge has them: rounded to bfloat16 they tie."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    labels = list(prompts.label_token_ids(tokenizer))
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[labels] = 10.0 + 0.01 * model.lm_head.weight[labels].sign()
        model.lm_head.weight[labels[1]] += 0.0625 * model.lm_head.weight[5].sign()
    model.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    asked, expected, coarse = requests(), [], set()
    for r in asked:
        ids = prompts.prompt_ids(tokenizer, r.question, r.prefix_a, r.prefix_b)
        with torch.no_grad():
            last = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        rows = model.lm_head.weight[labels]
        expected.append((rows.double() @ last.double()).softmax(0)[1].item())
        coarse.add((rows @ last).double().softmax(0)[1].item())
    found = [p_same for p_same, *_ in engine_scores(tmp_path, kind, str(tmp_path / "judge"), asked, dtype="bfloat16")]
    assert len(set(found)) > 2 * len(coarse)
    assert found == pytest.approx(expected, abs=0.05)


def test_prompt_puts_what_repeats_first(smol):
    tokenizer = AutoTokenizer.from_pretrained(smol)
    a = prompts.prompt_ids(tokenizer, "How many?", "shared representative", "one {new} trace")
    b = prompts.prompt_ids(tokenizer, "How many?", "shared representative", "another {prefix_a}")
    common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    text = tokenizer.decode(a[:common])
    assert "How many?" in text and "shared representative" in text and "another" not in text
    assert "another {prefix_a}" in tokenizer.decode(b)


def test_labels_are_one_token(smol):
    different, same = prompts.label_token_ids(AutoTokenizer.from_pretrained(smol))
    assert different != same


@pytest.mark.parametrize(
    ("lines", "has"),
    [("flags\t\t: fpu avx512f avx512_bf16 sse2\n", True), ("flags : fpu amx_bf16\n", True), ("Features\t: fp asimd bf16\n", True),
     ("flags : fpu avx2 f16c\n", False), ("model name : bf16 avx512_bf16\n", False), ("", False)],
)  # fmt: skip
def test_a_processor_without_bfloat16_computes_in_float32(tmp_path, monkeypatch, lines, has):
    (tmp_path / "cpuinfo").write_text("processor : 0\n" + lines)
    assert runtime.has_bfloat16(tmp_path / "cpuinfo") is has
    assert runtime.has_bfloat16(tmp_path / "nothing") is False
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: has)
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    assert runtime.compute_dtype("auto") == ("bfloat16" if has else "float32")
    assert [runtime.compute_dtype(given) for given in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(
    ("says", "dtype"), [("echo 9.0; echo 8.0", "bfloat16"), ("echo 9.0; echo 7.5", "float16"), ("exit 9", "bfloat16")]
)
def test_an_older_gpu_computes_in_float16(tmp_path, monkeypatch, says, dtype):
    """nvidia-smi says the compute capability; where it cannot, the GPU is taken for one of today."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    runtime._compute_capabilities.cache_clear()
    assert runtime.compute_dtype("auto") == dtype
    assert runtime.gpu_has_bfloat16() is (dtype == "bfloat16")
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    assert runtime.gpu_has_bfloat16() is False
    runtime._compute_capabilities.cache_clear()


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


def test_sentence_bert_encodes_each_prefix_once():
    judge = judges.open_judge("sbert", "all-MiniLM-L6-v2")
    asked = requests()
    twice = [*asked, Request("q", asked[0].prefix_a, asked[0].prefix_a, "x", "y")]
    scores = judge.score(twice)
    assert scores[-1].p_same == pytest.approx(1.0, abs=1e-5)
    assert len(judge.vectors) == len({p for r in twice for p in (r.prefix_a, r.prefix_b)})
    assert sum(s.prompt_tokens - s.cached_tokens for s in scores) == sum(judge.tokens.values())


def test_unknown_judges_and_models():
    with pytest.raises(UserError, match="unknown judge"):
        judges.open_judge("tarot")
    with pytest.raises(UserError, match="needs a model"):
        judges.name_of("vllm")
    with pytest.raises(UserError, match="unknown model 'nobody/nothing'.*no such local folder.*not among the packaged"):
        judges.name_of("vllm", "nobody/nothing")


def test_a_lora_adapter_is_merged_into_its_base(tmp_path, tiny, monkeypatch):
    """Merged weights give the adapter's own scores, and the name changes with the adapter's bytes."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from deepprune.judges.weights import identify, prepare

    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(tmp_path / "judge")
    name, folder = prepare(str(tmp_path / "judge"))
    ids = torch.arange(40)[None]
    merged = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), str(tmp_path / "judge"))(ids).logits
    base = AutoModelForCausalLM.from_pretrained(tiny)(ids).logits
    assert torch.allclose(merged, adapted, atol=2e-3) and not torch.allclose(merged, base, atol=0.2)
    prepare.cache_clear()
    assert name.startswith("judge@") and prepare(str(tmp_path / "judge")) == (name, folder)
    # The same adapter on another base, or scaled otherwise, is another judge and merged anew.
    own = name.split("+")[0]
    config = json.loads((tmp_path / "judge/adapter_config.json").read_text())
    other = AutoModelForCausalLM.from_pretrained(tiny)
    other.model.norm.weight.data.mul_(1.5)
    other.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "base")
    found = {folder}
    for changed in ({"base_model_name_or_path": str(tmp_path / "base")}, {"lora_alpha": config["lora_alpha"] * 4}):
        (tmp_path / "judge/adapter_config.json").write_text(json.dumps(config | changed))
        prepare.cache_clear(), identify.cache_clear()
        again, elsewhere = prepare(str(tmp_path / "judge"))
        assert again.startswith(own + "+") and (again == name) == ("lora_alpha" in changed)
        assert not torch.allclose(AutoModelForCausalLM.from_pretrained(elsewhere)(ids).logits, merged, atol=0.1)
        found.add(elsewhere)
    assert len(found) == 3


def test_a_packed_adapter_is_the_same_in_bfloat16_under_another_name(tmp_path, monkeypatch):
    import torch
    from safetensors.torch import load_file, save_file

    from deepprune.judges import weights

    adapter = tmp_path / "judge"
    adapter.mkdir()
    torch.manual_seed(0)
    tensors = {f"layer{i}.lora_A.weight": torch.randn(8, 64) for i in range(4)}
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    (adapter / "manifest.json").write_text('{"stage": "train"}')
    size = weights.pack(adapter, tmp_path / "packed")
    assert size < 0.6 * (adapter / "adapter_model.safetensors").stat().st_size
    assert sorted(p.name for p in (tmp_path / "packed").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    for name, value in load_file(tmp_path / "packed/adapter_model.safetensors").items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, tensors[name].to(torch.bfloat16))
    with pytest.raises(UserError, match="only LoRA adapters"):
        weights.pack(tmp_path, tmp_path / "other")


def test_the_environment_keeps_what_the_user_set():
    env = runtime.environment({"VLLM_LOGGING_LEVEL": "INFO", "LD_PRELOAD": "/x.so"})
    assert env["VLLM_LOGGING_LEVEL"] == "INFO" and env["LD_PRELOAD"].split(":")[0] == "/x.so"


@pytest.fixture
def shards(tmp_path):
    """Folder of a model in two shards."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "sharded"
    folder.mkdir()
    for number in (1, 2):
        save_file(
            {f"w{number}": torch.full((4, 8), float(number))}, folder / f"model-0000{number}-of-00002.safetensors"
        )
    names = {f"w{number}": f"model-0000{number}-of-00002.safetensors" for number in (1, 2)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "config.json").write_text("{}")
    return folder


def test_a_judge_is_known_by_all_its_weights(tmp_path, shards, monkeypatch):
    """A change in a later shard is another judge; so are other weights under the same hub id."""
    import torch
    from safetensors.torch import save_file

    from deepprune.engines import models
    from deepprune.judges.weights import identify

    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    first = judges.describe("vllm", str(shards))
    assert first["name"] == f"sharded@{first['sha256'][:8]}" and first["parameters"] == 64
    # Bytes that were hashed are not read again: one note a file.
    notes = json.loads((tmp_path / "cache/hashes.json").read_text())
    assert len(notes) == 2 and all(key.startswith(str(shards)) for key in notes)
    (tmp_path / "cache/hashes.json").write_text(json.dumps(dict.fromkeys(notes, "0" * 64)))
    assert models.weights_hash(shards) != first["sha256"]
    (tmp_path / "cache/hashes.json").write_text("broken")
    assert models.weights_hash(shards) == first["sha256"]
    save_file({"w2": torch.full((4, 8), 3.0)}, shards / "model-00002-of-00002.safetensors")
    identify.cache_clear()
    assert identify(str(shards)).name not in (first["name"], "sharded") and identify(str(shards)).name.startswith(
        "sharded@"
    )
    # Under a hub id: what lies in our cache folder, before and after.
    (tmp_path / "cache/models").mkdir()
    shards.rename(tmp_path / "cache/models/judge-4B")
    known = identify("somebody/judge-4B")
    assert known.source == "cache" and known.name == f"somebody/judge-4B@{known.sha256[:8]}"
    identify.cache_clear()
    save_file({"w1": torch.zeros(4, 8)}, tmp_path / "cache/models/judge-4B/model-00001-of-00002.safetensors")
    assert identify("somebody/judge-4B").name != known.name
    (tmp_path / "cache/models/judge-4B/model-00001-of-00002.safetensors").unlink()
    identify.cache_clear()
    with pytest.raises(UserError, match="model-00001-of-00002.safetensors is missing"):
        identify("somebody/judge-4B")


def test_the_hubs_own_hashes_are_taken(tmp_path, monkeypatch):
    """In the hub's cache a file of weights is a link to one that is named by its SHA-256; a small file's name is another hash."""
    from deepprune.engines import models

    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "blobs").mkdir()
    snapshot = tmp_path / "snapshots/0123abc"
    snapshot.mkdir(parents=True)
    for name, read in (("ab" * 32, False), ("ab" * 20, True)):
        (tmp_path / "blobs" / name).write_bytes(b"not read")
        (snapshot / "model.safetensors").unlink(missing_ok=True)
        (snapshot / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
        assert models.weights_hash(snapshot) == (hashlib.sha256(b"not read").hexdigest() if read else name)


def test_the_size_of_a_judge_is_unknown_not_nothing(shards):
    assert judges.describe("random", seed=3) == {"name": "random-3", "sha256": None, "source": None, "parameters": 0}
    assert judges.parameters_of("transformers", str(shards)) == 64
    (shards / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    assert judges.parameters_of("transformers", str(shards)) is None


@pytest.mark.parametrize(
    ("this", "other", "p"), [(-1.0, -1.0, 0.5), (-0.1, -900.0, 1.0), (-900.0, -0.1, 0.0), (-math.inf, -0.1, 0.0)]
)
def test_the_better_of_two_labels(this, other, p):
    assert interface.better(this, other) == pytest.approx(p)


@pytest.mark.parametrize(
    ("this", "other"), [(math.nan, -1.0), (-1.0, math.nan), (math.nan, math.nan), (-math.inf, -math.inf)]
)
def test_a_score_that_is_no_number_is_an_error(this, other):
    with pytest.raises(judges.NotAJudge, match="no probabilities: are its weights finite"):
        judges.Score(interface.better(this, other))
    with pytest.raises(judges.NotAJudge):
        judges.Score(0.5, label_mass=math.nan)


def with_nan(model, folder, what):
    """A copy of a model folder with one weight that is NaN."""
    from transformers import AutoModelForCausalLM

    broken = AutoModelForCausalLM.from_pretrained(model)
    what(broken).data[0] = math.nan
    broken.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def test_weights_that_are_not_finite_are_no_judge(tmp_path, tiny, monkeypatch):
    broken = with_nan(tiny, tmp_path / "broken", lambda m: m.model.norm.weight)
    with pytest.raises(judges.NotAJudge, match=r"judge broken@\w{8}: answered with p_same = nan"):
        judges.open_judge("transformers", broken).score(requests()[:3])
    # An adapter is looked through before it is merged.
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("DEEPPRUNE_CACHE", str(tmp_path / "cache"))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=2, target_modules=["q_proj"]))
    next(w for name, w in model.named_parameters() if "lora_B" in name).data.fill_(math.nan)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"adapter_model.safetensors: .*lora_B.* not finite"):
        judges.open_judge("transformers", str(tmp_path / "adapter"))
    assert not list((tmp_path / "cache").glob("merged/*"))


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


TOPS = {1: -0.105, 2: -2.5, 3: -5.0, 4: -6.0, 5: -7.0}  # nine tenths for the first


@pytest.mark.parametrize(
    ("labels", "top", "says"),
    [({1: -0.105, 2: -2.5}, TOPS, None), ({1: -0.105, 9: -11.0}, TOPS, None),
     ({1: -0.02, 9: -4.0}, TOPS, r"token 9 is -4.000 .*, at most -7.000 where nothing is"),  # the labels alone
     ({1: -0.7, 2: -0.7}, TOPS, r"token 1 is -0.700 .*, -0.105 where nothing is"),
     ({1: -0.1, 2: -2.5}, TOPS | {3: -0.2}, "probability of 1.8"), ({1: 12.0, 2: 9.0}, {1: 12.0, 2: 9.0}, "probability of"),
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
    """In place of the OpenAI client: answers with a log-probability of each token of a small vocabulary, as it is told."""

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
     ((0.001, 0.01), {"knows_ids": False}, "no log-probability of its label 'no'"), ((None, 0.3), {}, "weights are not finite")],
)  # fmt: skip
def test_what_a_server_answers_is_looked_at(tiny, monkeypatch, capsys, probabilities, options, says):
    import openai

    from deepprune.judges.server import ServerJudge

    no, yes = prompts.label_token_ids(AutoTokenizer.from_pretrained(tiny))
    rest = 1 - sum(p or 0.0 for p in probabilities)
    others = {
        token: math.log(rest * share)
        for token, share in ((900, 0.513), (901, 0.212), (902, 0.141), (903, 0.081), (904, 0.053))
    }
    labels = {token: None if p is None else math.log(p) for token, p in zip((no, yes), probabilities, strict=True)}
    server = MadeUpServer(others | labels, **options)
    monkeypatch.setattr(openai, "OpenAI", lambda **_: server)
    judge = ServerJudge(tiny, judges.JudgeOptions(url="http://127.0.0.1:1/v1"))
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
    assert """--hf-overrides '{"head_dtype": "float32"}'""" in capsys.readouterr().err
    judge.close()


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """Folder of a sentence encoder without layers or a limit of length: the mean of its words' vectors."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *"first we add multiply the tens apples of and so sum is".split()]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("static")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(str(folder))
    return folder


def test_a_static_embedding_model_gives_scores(static):
    judge = judges.open_judge("sbert", str(static))
    texts = ["we add the tens", "we multiply the apples", "first we add " * 400, ""]
    asked = [Request("q", a, b, f"{i}", f"{j}") for i, a in enumerate(texts) for j, b in enumerate(texts)]
    scores = judge.score(asked)
    vectors = judge.model.encode(texts, normalize_embeddings=True)
    assert [s.p_same for s in scores] == pytest.approx(
        ((1 + vectors @ vectors.T) / 2).clip(0, 1).ravel().tolist(), abs=1e-5
    )
    assert scores[0].p_same == pytest.approx(1.0) and scores[0].prompt_tokens == 8
    assert scores[2].prompt_tokens == 4 + 1200  # no limit: all of it is read
    assert judge.parameters == judges.parameters_of("sbert", str(static)) == 13 * 16


def test_embeddings_that_are_not_finite_are_an_error_and_not_kept(static, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(static, tmp_path / "broken")
    (weights,) = (tmp_path / "broken").rglob("*.safetensors")
    tensors = load_file(weights)
    next(iter(tensors.values()))[2] = math.nan
    save_file(tensors, weights)
    judge = judges.open_judge("sbert", str(tmp_path / "broken"), cache=tmp_path / "cache.npz")
    with pytest.raises(judges.NotAJudge, match="embeddings are not finite"):
        judge.score([Request("q", "we add", "the sum", "a", "b")])
    assert not (tmp_path / "cache.npz").exists()


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

    made = Engine()
    running = engine.run(SimpleNamespace(llm_engine=made), ((str(i), None, None) for i in range(100)), window=4)
    assert [next(running)[0] for _ in range(3)] == ["0", "1", "2"]
    running.close()
    assert sorted(made.aborted) == ["3", "4", "5"] and not made.open
    assert [name for name, _ in engine.run(SimpleNamespace(llm_engine=made), [("again", None, None)])] == ["again"]

"""The judges on a small real model: vLLM and transformers agree, the limits are limits."""

import pytest
from conftest import engine_scores
from transformers import AutoTokenizer

from deepprune import judges, prompts, runtime
from deepprune.errors import UserError
from deepprune.judges import Request

TRACE = "First we add the tens of {a} and {b}. Then we carry, so the sum is near {c}. Therefore we check {d} again."


def requests():
    """24 pairs of 3 problems; each first trace is shared by four pairs."""
    made = []
    for q in range(3):
        question = f"Ann has {17 + q} apples and buys {25 * q} more, then gives away half. How many are left?"
        for a in range(2):
            first = TRACE.format(a=q, b=a, c=q + a, d=7)
            made += [Request(question, first, TRACE.format(a=b, b=q, c=3 * b, d=b), f"{q}a{a}", f"{q}b{b}", b % 2)
                     for b in range(4)]  # fmt: skip
    return made


def test_vllm_equals_transformers_and_uses_its_prefix_cache(tmp_path, smol):
    asked = requests()
    fast = engine_scores(tmp_path, "vllm", smol, asked)
    slow = judges.open_judge("transformers", smol, batch=5).score(asked)
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
    scores = judges.open_judge("transformers", smol, batch=3).score(requests())
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
    assert runtime.cpu_dtype("auto") == ("auto" if has else "float32")
    assert runtime.cpu_dtype("bfloat16") == "bfloat16"
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    assert runtime.cpu_dtype("auto") == "auto"


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

    from deepprune.judges.weights import prepare

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
        "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    for name, value in load_file(tmp_path / "packed/adapter_model.safetensors").items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, tensors[name].to(torch.bfloat16))
    with pytest.raises(UserError, match="only LoRA adapters"):
        weights.pack(tmp_path, tmp_path / "other")


def test_the_environment_keeps_what_the_user_set():
    env = runtime.environment({"VLLM_LOGGING_LEVEL": "INFO", "LD_PRELOAD": "/x.so"})
    assert env["VLLM_LOGGING_LEVEL"] == "INFO" and env["LD_PRELOAD"].split(":")[0] == "/x.so"

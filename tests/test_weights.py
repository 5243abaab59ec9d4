"""A judge's weights: adapters are merged, hashes name them, broken ones are no judge."""

import dataclasses
import hashlib
import json
import math

import pytest
from toys import requests
from transformers import AutoTokenizer

from deepprune import judges
from deepprune.base.errors import UserError
from deepprune.judges import profiles
from deepprune.judges.profiles import DEFAULT


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
    profiles.save(dataclasses.replace(DEFAULT, same="Yes"), tmp_path / "judge" / profiles.FILE)
    name, folder = prepare(str(tmp_path / "judge"))
    assert profiles.beside(folder).same == "Yes"  # so that a server of the merged weights is asked as the adapter is
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
    folders = {folder}
    for changed in ({"base_model_name_or_path": str(tmp_path / "base")}, {"lora_alpha": config["lora_alpha"] * 4}):
        (tmp_path / "judge/adapter_config.json").write_text(json.dumps(config | changed))
        prepare.cache_clear(), identify.cache_clear()
        again, elsewhere = prepare(str(tmp_path / "judge"))
        assert again.startswith(own + "+") and (again == name) == ("lora_alpha" in changed)
        assert not torch.allclose(AutoModelForCausalLM.from_pretrained(elsewhere)(ids).logits, merged, atol=0.1)
        folders.add(elsewhere)
    assert len(folders) == 3


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
    profiles.save(DEFAULT, adapter / profiles.FILE)
    size = weights.pack(adapter, tmp_path / "packed")
    assert size < 0.6 * (adapter / "adapter_model.safetensors").stat().st_size
    assert sorted(p.name for p in (tmp_path / "packed").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        profiles.FILE,
        "manifest.json",
    ]
    for name, value in load_file(tmp_path / "packed/adapter_model.safetensors").items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, tensors[name].to(torch.bfloat16))
    with pytest.raises(UserError, match="only LoRA adapters"):
        weights.pack(tmp_path, tmp_path / "other")


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
    """In the hub's cache weights are a link to a file named by its SHA-256; a small file's name is another hash."""
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
    described = {"name": "random-3", "sha256": None, "source": None, "parameters": 0}
    assert judges.describe("random", seed=3) == described | {"prompt_version": DEFAULT.version}
    assert judges.parameters_of("transformers", str(shards)) == 64
    (shards / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    assert judges.parameters_of("transformers", str(shards)) is None


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

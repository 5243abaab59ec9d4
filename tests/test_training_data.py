"""The rows and the template that a judge is trained on: what is refused, and in which words. Nothing is trained."""

import json
import shutil

import pytest
import toys
from training_world import PAIRS, write_data
from transformers import AutoTokenizer

from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.engines.upstream import import_llamafactory
from deepprune.judges.profiles import DEFAULT
from deepprune.judges.training.recipe import Recipe
from deepprune.judges.training.template import check_template


def recipe_with(world, template):
    return Recipe.read(world / "recipe.yaml", [f"template={template}"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"formatting": "sharegpt"}, "formatting should be alpaca, as stage 02 writes it, found 'sharegpt'"),
        ({"num_samples": 5}, "remove num_samples: every row is read once"),
        ({"file_name": "train.json"}, "file_name should be a .jsonl file"),
        ({"file_name": None}, "has no file_name"),
        ({"columns": {"prompt": "instruction", "response": "output"}}, "columns should be system, prompt, query and"),
        ({"columns": {"system": "system", "history": "history"}}, "columns should be system, prompt, query and"),
        ({"columns": {"system": None}}, "columns should map"),
    ],
)  # fmt: skip
def test_a_registry_whose_rows_would_not_all_be_read_as_they_stand_is_refused(refused, tmp_path, change, message):
    write_data(tmp_path / "data", [DEFAULT.training_row(*pair) for pair in PAIRS])
    registry = tmp_path / "data" / "dataset_info.json"
    entries = json.loads(registry.read_text())
    registry.write_text(json.dumps({"deepprune_pairs": entries["deepprune_pairs"] | change}))
    line = refused(f"dataset_dir={tmp_path / 'data'}")
    assert f"{registry}: entry 'deepprune_pairs'" in line and message in line


def test_a_registry_that_is_no_registry_is_named(refused, tmp_path):
    registry = tmp_path / "dataset_info.json"
    for text, message in (("[]", "expected entries by name, found list"), ("{", "not valid JSON")):
        registry.write_text(text)
        assert message in refused(f"dataset_dir={tmp_path}") and str(registry) in refused(f"dataset_dir={tmp_path}")
    registry.write_bytes(b"\xff\xfe{")
    assert f"{registry}: not UTF-8" in refused(f"dataset_dir={tmp_path}")


def test_bad_training_rows_are_named_with_file_and_line(refused, tmp_path):
    rows = [DEFAULT.training_row(*pair) for pair in PAIRS]
    file = tmp_path / "data" / "train.jsonl"
    here = f"dataset_dir={tmp_path / 'data'}"
    write_data(tmp_path / "data", rows[:1] + [rows[1] | {"output": "maybe"}])
    assert f"{file}:2: 'output' should be no or yes, found 'maybe'" in refused(here)
    write_data(tmp_path / "data", rows[:2] + [{"instruction": "?", "input": "", "output": "yes"}])
    assert f"{file}:3: a training row needs the text field 'system'" in refused(here)
    write_data(tmp_path / "data", [])
    assert f"{file}: no training rows" in refused(here)
    file.write_text(json.dumps(rows[0]) + '\n{"system": "cut')
    assert f"{file}:2: not valid JSON" in refused(here)
    file.unlink()
    assert f"{file}: no such file (entry 'deepprune_pairs'" in refused(here)


def test_a_template_that_asks_otherwise_than_the_evaluation_is_refused(world):
    import_llamafactory()
    model = models.resolve(str(world / "tiny"))
    check_template(recipe_with(world, "smollm2"), model, DEFAULT)  # the one that fits
    for other in ("llama3", "vicuna", "no_such_template"):
        with pytest.raises(UserError, match=f"template {other!r} does not write the prompt.*fitting: .*smollm2"):
            check_template(recipe_with(world, other), model, DEFAULT)


GEMMA = """{{ bos_token }}{% for m in messages %}\
{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
<start_of_turn>{{ m.role }}
{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def test_a_model_whose_template_knows_no_system_role_can_be_trained(world, tmp_path):
    """Its evaluation asks with the system text before the question, as LLaMA-Factory's template for Gemma writes it."""
    import_llamafactory()
    shutil.copytree(world / "tiny", tmp_path / "gemma")
    (tmp_path / "gemma" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.chat_template = GEMMA
    tokenizer.save_pretrained(tmp_path / "gemma")
    model = models.resolve(str(tmp_path / "gemma"))
    check_template(recipe_with(world, "gemma"), model, DEFAULT)
    with pytest.raises(UserError, match="fitting: .*gemma"):
        check_template(recipe_with(world, "smollm2"), model, DEFAULT)


@pytest.mark.parametrize("template", ["smollm2", "qwen3_nothink"])
def test_training_and_evaluation_prompts_are_the_same_tokens(template):
    """qwen3_nothink writes the same turns as SmolLM2's chat template (both are ChatML)."""
    import_llamafactory()
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("HuggingFaceTB/SmolLM2-135M-Instruct").path)
    for question, a, b, label in PAIRS:
        prompt = toys.prompt_ids(tokenizer, question, a, b)
        row = DEFAULT.training_row(question, a, b, label)
        turns = [
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": row["output"]},
        ]
        built = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))
        source, target = built.encode_multiturn(tokenizer, turns, row["system"], None)[0]
        assert source == prompt
        assert target[0] == toys.label_ids(tokenizer)[label] and len(target) > 1


def test_a_problem_in_training_and_evaluation_is_refused(refused, tmp_path):
    rows = [DEFAULT.training_row(*pair) | {"problem_id": f"p{i}"} for i, pair in enumerate(PAIRS)]
    write_data(tmp_path / "data", rows[:2])
    write_data(tmp_path / "data", rows[1:], "held_out.jsonl")
    registry = tmp_path / "data" / "dataset_info.json"
    entry = json.loads(registry.read_text())["deepprune_pairs"]
    registry.write_text(json.dumps({"deepprune_pairs": entry | {"file_name": "train.jsonl"}, "held_out": entry}))
    message = refused(f"dataset_dir={tmp_path / 'data'}", "eval_dataset=held_out")
    assert "command line: 1 problems stand in dataset and eval_dataset, p1 for one" in message


def test_rows_with_a_control_token_of_the_model_are_refused(refused, tmp_path):
    """Training would obey it; evaluation breaks it up."""
    row = DEFAULT.training_row("2 + 3?", "a <|im_end|> here", "b", 1)
    assert "<|im_end|>" not in row["instruction"]
    write_data(tmp_path / "data", [row, row | {"instruction": row["instruction"].replace("here", "<|im_end|>")}])
    assert "train.jsonl:2: a control token of the model stands in 'instruction'" in refused(
        f"dataset_dir={tmp_path / 'data'}"
    )


@pytest.mark.parametrize("chat_template", [None, "{{ raise_exception('nothing goes') }}"])
def test_a_model_without_a_chat_template_for_a_judge_is_one_clear_line(refused, world, tmp_path, chat_template):
    tokenizer = AutoTokenizer.from_pretrained(world / "tiny")
    tokenizer.chat_template = chat_template
    shutil.copytree(world / "tiny", tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(tmp_path / "base")
    line = refused(f"model_name_or_path={tmp_path / 'base'}")
    assert "command line: " in line and str(tmp_path / "base") in line and "instruct model" in line
    (tmp_path / "base" / "tokenizer.json").write_text("{")
    assert "its tokenizer cannot be loaded" in refused(f"model_name_or_path={tmp_path / 'base'}")

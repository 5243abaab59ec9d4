"""Options of NAME=VALUE: what they are read as, and what is not the user's to give."""

import pytest

from deepprune.base import arguments
from deepprune.base.errors import UserError
from deepprune.data.truncation import Truncation
from deepprune.engines import engine
from deepprune.judges import JudgeOptions, score_store


def test_values_are_read_as_yaml():
    given = ["a=1", "b=0.5", "c=true", "d=word", "e={x: 1}", "f=null", "g=1e-5", "h='1e-5'", "i=a=b"]
    read = {"a": 1, "b": 0.5, "c": True, "d": "word", "e": {"x": 1}, "f": None, "g": 1e-5, "h": "1e-5", "i": "a=b"}
    assert arguments.values("--x", given) == read
    assert arguments.values("--x", ['a={"b": {"c": [1, 2.5]}}']) == {"a": {"b": {"c": [1, 2.5]}}}


@pytest.mark.parametrize("given", [["a"], ["a="], ["=1"], ["a=1", "a=2"]])
def test_another_form_is_refused(given):
    with pytest.raises(UserError, match="--x takes NAME=VALUE, each name once"):
        arguments.values("--x", given)


@pytest.mark.parametrize("value", ["{", "2024-01-02", "2024-13-45", ".nan", "!!x 1", "[" * 5000 + "]" * 5000])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(UserError, match="--x: the value of a is not valid YAML, or nothing that JSON holds"):
        arguments.values("--x", [f"a={value}"])


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("of_engine", "max_model_len=99", "max_model_len is set by the stage itself: give --max-model-len"),
        ("of_engine", "trust_remote_code=true", "no code of a model is run"),
        ("of_engine", "seed=3", "give --seed"),
        ("of_requests", "n=4", "n is set by the stage itself"),
        ("of_requests", "stream=true", "stream is set by the stage itself"),
        ("of_requests", "temperature=0", "temperature is set by --temperature; null alone leaves it out"),
        ("of_requests", "seed=1", "seed is set by --seed; null"),
        ("of_template", "tokenize=true", "tokenize is ours to give"),
        ("of_template", "messages=[]", "messages is ours to give"),
    ],
)
def test_what_a_stage_sets_itself_is_refused(kind, given, says):
    with pytest.raises(UserError, match=says):
        getattr(arguments, kind)(["other=1", given])


def test_what_a_stage_does_not_set_is_passed_on():
    assert arguments.of_engine(["quantization=fp8", "compilation_config={level: 3}"]) == {
        "quantization": "fp8",
        "compilation_config": {"level": 3},
    }
    fields = arguments.of_requests(["max_tokens=null", "max_completion_tokens=9", "seed=null"])
    assert fields == {"max_tokens": None, "max_completion_tokens": 9, "seed": None}


def test_a_judges_logits_stay_in_32_bits_whatever_else_is_overridden():
    options = JudgeOptions(engine_args=['hf_overrides={"rope_theta": 1e6, "head_dtype": "bfloat16"}', "block_size=64"])
    assert options.engine_arguments(hf_overrides={"head_dtype": "float32"}) == {
        "hf_overrides": {"rope_theta": 1e6, "head_dtype": "float32"},
        "block_size": 64,
    }
    with pytest.raises(UserError, match="a judge needs raw_logprobs"):
        JudgeOptions(engine_args=["logprobs_mode=processed_logprobs"]).engine_arguments()


def test_a_judge_with_other_engine_arguments_has_a_store_of_its_own():
    judge = {"name": "j@1", "sha256": "0", "prompt_version": "p"}

    def stored(*given):
        return score_store.identity(judge, "vllm", "float32", Truncation(), "t", given)

    assert stored("quantization=fp8", "a=1") == stored("a=1", "quantization=fp8") != stored()
    assert "engine_args" not in stored()  # as stores of before have it


def test_an_argument_that_vllm_does_not_know_is_one_line():
    def takes(block_size):
        return 1 + block_size

    with pytest.raises(UserError, match="vLLM could not start m: .*'blocksize': see to --engine-args"):
        with engine.starting("m"):
            takes(blocksize=1)
    with pytest.raises(TypeError, match="unsupported operand"), engine.starting("m"):  # an error of a program's own
        takes("1")

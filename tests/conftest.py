"""Shared fixtures: small problems and traces, a tiny random model, stage scripts as subprocesses."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import forks
import hypothesis
import pytest

from deepprune.base import records
from deepprune.base.records import Problem, Trace, content_hash
from deepprune.engines import models, random_llama

# The same examples on every run, however long one takes: a busy machine fails no test.
# `pytest --hypothesis-profile default` draws new ones.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parent.parent
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def run_stage(*args, env=None, timeout=1800):
    """Run a script in a fork that has the packages loaded; returns the finished process with text output."""
    return forks.run(args, ROOT, env, timeout)


def run_process(*args, timeout=1800):
    """Run a script just as a user would: in a process of its own, on all cores, an engine in its own processes."""
    env = {name: value for name, value in os.environ.items() if name not in forks.MODEST}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=timeout)


SCORE = """
import json, os, sys
from deepprune import judges
from deepprune.base import runtime
from deepprune.judges import Request
if __name__ == "__main__":
    runtime.ensure()
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # so that a test can reach the model's weights
    kind, model, asked, out, dtype = sys.argv[1:]
    judge = judges.open_judge(kind, model, dtype=dtype, max_model_len=1024, batch=8)
    requests = [Request(*row) for row in json.load(open(asked))]
    scores = judge.score(requests)
    json.dump([[s.p_same, s.prompt_tokens, s.cached_tokens, s.calls] for s in scores], open(out, "w"))
    MORE
    judge.close()
"""


def engine_scores(folder, kind, model, requests, dtype="float32", more="") -> list[tuple[float, int, int, int]]:
    """(p_same, prompt_tokens, cached_tokens, calls) of each Request by a vLLM judge in a process of its own.

    more: what else to do there with `judge`, `requests` and `scores`, before the judge is closed.
    """
    script, asked, out = (folder / name for name in ("score.py", "asked.json", "scores.json"))
    script.write_text(SCORE.replace("MORE", textwrap.indent(more, "    ").lstrip()))
    asked.write_text(
        json.dumps([[r.question, r.prefix_a, r.prefix_b, r.trace_a, r.trace_b, r.label] for r in requests])
    )
    done = run_stage(script, kind, model, asked, out, dtype)
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(row) for row in json.loads(out.read_text())]


def make_problem(number=1, gold="4", **fields) -> Problem:
    return Problem.new("test", f"What is {number} + {number}?", gold, family=fields.pop("family", "sums"), **fields)


def make_trace(problem, index, answer, *, text=None, n_tokens=10, model="reasoner-1B") -> Trace:
    text = text if text is not None else f"First we add. So the sum is {answer}, then \\boxed{{{answer}}} #{index}"
    return Trace(
        content_hash("trace", problem.problem_id, model, index),
        problem.problem_id,
        model,
        index,
        text,
        n_tokens,
        "stop",
        answer,
        None if answer is None else answer == problem.gold,
    )


@pytest.fixture(scope="session")
def smol() -> str:
    """Folder of the packaged SmolLM2-135M-Instruct."""
    return models.resolve(SMOL).path


@pytest.fixture(scope="session")
def byte_bpe(tmp_path_factory) -> str:
    """Folder of a tokenizer of another make than SmolLM2's: a byte-level BPE learned here, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = [
        "yes no Problem: Solution A (beginning): Will solutions A and B end in the same final answer? Reply yes or no."
    ]
    bpe.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=special[1], pad_token=special[1])
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    folder = tmp_path_factory.mktemp("byte-bpe")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, smol) -> str:
    """Folder of a random two-layer Llama with SmolLM2's tokenizer: fast, and wrong about everything."""
    return random_llama.save(tmp_path_factory.mktemp("tiny-model"), smol)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder to train in: a tiny model, a data set and a recipe."""
    from training_world import make_world

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def refused(world, monkeypatch, capsys):
    """A function: train in the world with these arguments; the error line of an exit with code 2."""
    from training_world import refusal_of

    return refusal_of(world, monkeypatch, capsys)


@pytest.fixture
def sample(tmp_path):
    """(problems file, traces file): 6 problems x 6 traces with two or three answers each."""
    problems = [make_problem(i, str(2 * i), family="sums" if i % 2 else "others") for i in range(1, 7)]
    traces = [
        make_trace(p, i, [p.gold, p.gold, "7", None, p.gold, "99"][i], n_tokens=20 + i)
        for p in problems
        for i in range(6)
    ]
    records.write(tmp_path / "problems.jsonl", problems)
    records.write(tmp_path / "traces.jsonl", traces)
    return tmp_path / "problems.jsonl", tmp_path / "traces.jsonl"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Tests never wait for a model hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def load_script(path: str):
    """A stage's script as a module, so that a test can run its main in this process with parts of it replaced."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # dataclasses look their module up
    spec.loader.exec_module(script)
    return script


LONGEST = """test_pipeline test_live_server test_train_judge test_judges test_notebooks test_kill_and_resume test_errors
test_compare_methods""".split()


def pytest_collection_modifyitems(items):
    """The longest files first: at the end, two processes have little left that only one of them can do."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))

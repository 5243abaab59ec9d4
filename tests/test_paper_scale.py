"""The commands at paper scale (docs/gpu.md): every one is parsed, so that only the hub and the GPUs are missing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load_script

from deepprune.base import config

SAY = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture(scope="module")
def commands():
    """The argument lists of the section's shell block, with its loops run and nothing started."""
    section = (ROOT / "docs" / "gpu.md").read_text().split("## Paper scale, on GPUs")[1].split("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    say = f"{{ {sys.executable} -c '{SAY}' \"$@\"; }}"
    done = subprocess.run(
        ["bash", "-euc", f"python() {say}; torchrun() {say}\n{block}"], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


class Parsed(Exception):
    """A stage has read its settings."""


def test_each_command_is_one_that_its_stage_takes(commands, monkeypatch):
    """Settings are in range, and what a command reads an earlier one has written."""
    monkeypatch.chdir(ROOT)
    parse, made, reasoners = config.parse, set(), set()

    def parsed(*args, **kwargs):
        raise Parsed(parse(*args, **kwargs))

    monkeypatch.setattr(config, "parse", parsed)
    for command in commands:
        script = next(argument for argument in command if argument.endswith(".py"))
        arguments = command[command.index(script) + 1 :]
        module = load_script(script)
        if script.endswith("train.py"):
            module.import_llamafactory()
            recipe = module.Recipe.read(Path(arguments[0]), arguments[1:])
            recipe.check_keys()
            recipe.take_ours()
            args = recipe.args
            made.add(args["output_dir"])
            assert f"{args['dataset_dir']}/finetune_data/{args['dataset']}.jsonl" in made
            continue
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(Parsed) as end:
            module.main()
        (settings,) = end.value.args
        if hasattr(settings, "cut"):
            settings.cut()
        for key in ("problems", "traces", "test_traces", "pairs"):
            files = getattr(settings, key, None) or []
            assert set([files] if isinstance(files, str) else files) <= made, f"{script}: {key}"
        if script.endswith("build_pair_dataset.py"):
            folders = ("finetune_data", "offline_test_data", "online_test_data")
            made |= {f"{settings.data_dir}/{folder}/{settings.name}.jsonl" for folder in folders}
        else:
            assert settings.output not in made
            made.add(settings.output)
        if "sample" in script and settings.n == 512:
            reasoners.add(settings.model)
        elif hasattr(settings, "model") and "sample" not in script:
            assert settings.model in made  # the judge
    assert reasoners == {"deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-32B", "openai/gpt-oss-20b"}


def test_training_and_pruning_have_no_benchmark_in_common(commands):
    (pairs,) = [command for command in commands if command[0].endswith("build_pair_dataset.py")]
    at, end = pairs.index("--traces"), pairs.index("--test-traces")
    assert [name.split(".")[0] for name in pairs[at + 1 : end]] == ["AIME22", "AIME23", "MATH500"]
    pruned = {c[c.index("--problems") + 1].split(".")[0] for c in commands if "greedy" in c[0]}
    assert pruned == {"AIME24", "AIME25", "GPQA-diamond"}

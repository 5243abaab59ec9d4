import dataclasses
import importlib
import importlib.util
import pkgutil
import re
import typing

import pytest
from conftest import ROOT, load_script

import deepprune
from deepprune import judges
from deepprune.base import config, runtime, yaml_files
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.data.sampling import check_context
from deepprune.prune.clustering import ClusterSettings
from deepprune.prune.live_setup import LivePruneSettings


@dataclasses.dataclass
class Settings:
    output: str = setting(config.REQUIRED, "where to")
    rate: float = setting(0.5, "a rate")
    count: int = setting(3, "a count", free=True)
    names: list[str] = setting(["a"], "names")
    kind: str = setting("x", "a kind", choices=("x", "y"))
    maybe: int | None = setting(None, "may be none")
    flag: bool = setting(True, "a flag")
    share: float = setting(0.25, "a share", at_least=0, below=1)
    sizes: list[int] = setting([1], "sizes", at_least=1, at_most=9)
    kinds: list[str] = setting(["x"], "kinds", choices=("x", "y"))
    many: list[str] = setting([], "any names")
    name: str = setting("a", "a name", is_name=True)
    url: str | None = setting(None, "an address", is_url=True)
    rows: str | None = setting(None, "rows", ends=config.JSONL)
    dtype: str = config.dtype("weights' type")


def parse(*argv):
    return config.parse(Settings, "prune", "doc", list(argv))


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_command_line_over_recipe_over_defaults(tmp_path):
    path = recipe(tmp_path, "prune:\n  rate: 1\n  count: 7\n  names: [b, c]\n  flag: false\n")
    settings = parse("--config", path, "--output", "o", "--count", "9")
    assert settings == Settings("o", 1.0, 9, ["b", "c"], "x", None, False, dtype=settings.dtype)
    assert isinstance(settings.rate, float)
    assert config.free_settings(Settings) == ("count",)


@dataclasses.dataclass
class ServedSettings:
    judge_url: list[str] = config.setting([], "servers", is_url=True)
    judge_dtype: str = config.dtype("the judge's weights' type", "judge_url")


def test_the_weights_of_servers_are_as_served(capsys):
    def parse(*argv):
        return config.parse(ServedSettings, None, "", list(argv))

    here, there = ["--judge-dtype", "float16"], ["--judge-url", "http://127.0.0.1:1/v1"]
    assert parse(*here).judge_dtype == "float16" and parse(*there).judge_dtype == config.AS_SERVED == "as served"
    with pytest.raises(UserError, match="--judge-dtype is of an engine of this process, not of --judge-url"):
        parse(*here, *there)


@pytest.mark.parametrize(
    ("kind", "servers"),
    [
        (judges.JudgeSettings, {"dtype": "judge_url"}),
        (LivePruneSettings, {"dtype": "reasoner_url", "judge_dtype": "judge_url"}),
        (load_script("scripts/01_sample_traces.py").SampleSettings, {"dtype": "reasoner_url"}),
    ],
)
def test_each_type_of_weights_knows_who_may_serve_them(kind, servers):
    fields = {field.name: field.metadata for field in dataclasses.fields(kind)}
    assert {n: m["servers"] for n, m in fields.items() if m["choices"] == config.DTYPES} == servers


def test_dtype_auto_is_decided_before_anything_is_written(monkeypatch, tmp_path):
    """By the machine, wherever it stands; what is named stays."""
    monkeypatch.setattr(runtime, "compute_dtype", lambda dtype: {"auto": "float16"}.get(dtype, dtype))
    path = recipe(tmp_path, "prune:\n  dtype: auto\n")
    for more in ([], ["--dtype", "auto"], ["--config", path]):
        assert config.resolved(parse("--output", "o", *more))["dtype"] == "float16"
    assert parse("--output", "o", "--config", path, "--dtype", "bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune:\n  rate: 1\n  rat: 2\n", r"recipe\.yaml:3: unknown key 'rat'"),
        ("sample: {}\nprunes:\n  rate: 1\n", r"recipe\.yaml:2: unknown section 'prunes'"),
        ("prune:\n  count: 1.5\n", r"recipe\.yaml:2: count should be int"),
        ("prune:\n  rate: 1e-5\n", r"recipe\.yaml:2: rate should be float.*write 1.0e-5"),
        ("prune:\n  kind: z\n", r"recipe\.yaml:2: kind should be one of x, y"),
        ("prune:\n  flag: 1\n", r"recipe\.yaml:2: flag should be bool"),
        ("prune: [\n", r"recipe\.yaml:\d: not valid YAML"),
        ("prune:\n  share: 1\n", r"recipe\.yaml:2: share should be at least 0, below 1, found 1"),
        ("prune:\n  share: .nan\n", r"recipe\.yaml:2: share should be a finite number"),
        ("prune:\n  rate: .inf\n", r"recipe\.yaml:2: rate should be a finite number"),
        (f"prune:\n  rate: 1{'0' * 400}\n", r"recipe\.yaml:2: rate should be a finite number"),
        (f"prune:\n  count: -1{'0' * 400}\n", r"recipe\.yaml:2: count should be at most 2,147,483,647"),
        ("prune:\n  sizes: [3, 10]\n", r"recipe\.yaml:2: sizes should be at least 1, at most 9, found 10"),
        ("prune:\n  sizes: []\n", r"recipe\.yaml:2: sizes should hold at least one value"),
        ("prune:\n  kinds: [x, z]\n", r"recipe\.yaml:2: kinds should be one of x, y, found 'z'"),
        ("prune:\n  rate: 1\n  rate: 2\n", r"recipe\.yaml:3: the key 'rate' stands twice, first in line 2"),
        (
            "prune:\n  rate: 1\nsample: {}\nprune: {}\n",
            r"recipe\.yaml:4: the key 'prune' stands twice, first in line 1",
        ),
        ("1: {}\n", r"recipe\.yaml:1: unknown section 1"),
    ],
)
def test_wrong_recipes_name_file_and_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        parse("--config", recipe(tmp_path, text), "--output", "o")


def test_required_settings_and_missing_recipe():
    with pytest.raises(UserError, match="--output is required"):
        parse()
    with pytest.raises(UserError, match="none.yaml: no such file"):
        parse("--config", "none.yaml", "--output", "o")


def test_the_two_recipes_have_the_same_sections_and_known_keys():
    """Both recipes load into every stage's settings (stage scripts check unknown keys the same way)."""
    cpu, paper = (yaml_files.read(f"scripts/recipes/{name}.yaml") for name in ("cpu", "paper"))
    assert set(cpu) == set(paper)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_recipe_that_is_not_utf_8_is_named_by_line(tmp_path, mark):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(mark + b"prune:\n  rate: 2\n")
    assert parse("--config", str(path), "--output", "o").rate == 2
    path.write_bytes(mark + b"prune:\n  rate: 2\n  kind: \xff\n")
    with pytest.raises(UserError, match=r"recipe\.yaml:3: not UTF-8"):
        parse("--config", str(path), "--output", "o")
    path.write_text("prune:\n  rate: 2\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"recipe\.yaml:1: not UTF-8"):
        parse("--config", str(path), "--output", "o")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--share -0.1", "--share should be at least 0, below 1, found -0.1"),
        ("--share nan", "--share should be a finite number, found nan"),
        ("--rate inf", "--rate should be a finite number"),
        ("--sizes 1 0", "--sizes should be at least 1, at most 9, found 0"),
        ("--count 2147483648", "--count should be at most 2,147,483,647, found a larger one"),
        (f"--count 1{'0' * 400}", "--count should be at most 2,147,483,647, found a larger one"),
        (f"--rate 1{'0' * 400}", "--rate should be a finite number, found inf"),
        ("--rate 1e300", "--rate should be at most 1,000,000,000,000,000, found 1e"),
        ("--count x", "argument --count: invalid int value: 'x'"),
        ("--unknown 1", "unrecognized arguments: --unknown 1"),
        ("--rows folder", "--rows should be a file that ends in .jsonl, found 'folder'"),
        ("--name ../x", "--name should be a name without"),
        ("--name ..", "--name should be a name without"),
        ("--name a,b", "--name should be a name without"),
        ("--name /x", "--name should be a name without"),
    ],
)
def test_the_command_line_is_checked_like_a_recipe(options, message):
    with pytest.raises(UserError, match=message):
        parse("--output", "o", *options.split())


def test_an_address_that_is_none_is_not_repeated():
    with pytest.raises(UserError, match="--url should be an address that begins with http") as refused:
        parse("--output", "o", "--url", "me:secret@host:8000/v1")
    assert "secret" not in str(refused.value)
    assert parse("--output", "o", "--url", "http://me:secret@host/v1").url == "http://me:secret@host/v1"


def test_help_shows_ranges(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "a share (at least 0, below 1, default: 0.25)" in shown
    assert "sizes (at least 1, at most 9, default: [1])" in shown


@pytest.fixture(scope="module")
def classes() -> dict[str, type]:
    """Every settings dataclass of the repository, by module and name."""
    modules = [
        importlib.import_module(m.name)
        for m in pkgutil.walk_packages(deepprune.__path__, "deepprune.")
        if not m.name.endswith("math_comparer")
    ]
    for folder in ("scripts", "Offline", "Online", "Preliminaries", "benchmarks"):
        for path in sorted((ROOT / folder).glob("*.py")):
            spec = importlib.util.spec_from_file_location(f"settings_of_{path.stem}", path)
            modules.append(importlib.util.module_from_spec(spec))
            spec.loader.exec_module(modules[-1])
    return {
        f"{kind.__module__}.{kind.__name__}": kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and any("help" in f.metadata for f in dataclasses.fields(kind))
    }


def test_every_number_has_a_range_that_its_default_is_in(classes):
    assert len(classes) > 20
    for name, kind in classes.items():
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if "help" not in field.metadata:
                continue
            scalar, many, _ = config._base_type(hints[field.name])
            if scalar in (int, float):
                bounds = [field.metadata[key] for key in ("at_least", "above")]
                assert bounds != [None, None], f"{name}.{field.name} declares no range"
            default = field.default_factory() if many and field.default is dataclasses.MISSING else field.default
            if not field.metadata["required"]:
                config._check(field.name, default, hints[field.name], field)


OUT_OF_RANGE = {
    "SampleSettings": """--temperature -1 | --temperature inf | --top-p 2 | --top-p 0 | --max-tokens 0 | --n 0 |
        --limit 0 | --limit -1 | --seed -1 | --confidence-stride 0 | --dtype int3 | --max-model-len 0""",
    "PruneSettings": """--lockstep 0 | --n -2 | --n 0 | --batch 0 | --limit 0 | --tau 1.5 | --tau nan | --k1 0 |
        --surety 0 | --truncation-k 0 | --finish never""",
    "PairSettings": """--test-pairs-per-problem 0 | --train-pairs-per-problem -1 | --test-share 1 | --oversampling 0 |
        --cutoff 1 | --name ../out""",
    "AblationSettings": "--cutoff 1 | --train-pairs-per-problem -1",
    "ProblemSettings": "--per-family 0 | --families sums | --benchmark AIME99",
    "EvaluateSettings": "--batch 0 | --resamples 0 | --resamples 1000001 | --timeout 1e9 | --batch 3000000000",
    "ReportSettings": "--reasoner-parameters 0",
    "CompareSettings": "--taus 0.5 2 | --rules best | --asks most",
    "SimulateSettings": "--aurocs 0.4 | --shared 1",
    "LivePruneSettings": "--retries -1 | --timeout 0 | --judge-memory 1.1 | --questions 0",
    "CostSettings": "--n 4 0",
    "LoadSettings": "--clients 0",
}


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, option.strip()) for name, options in OUT_OF_RANGE.items() for option in options.split("|")],
)
def test_values_that_ended_in_a_traceback_or_were_taken_as_they_are(classes, name, options):
    kind = next(kind for full, kind in classes.items() if full.endswith(f".{name}"))
    with pytest.raises(UserError, match=options.split()[0] + "( should be|: invalid choice)"):
        config.parse(kind, None, "doc", options.split())


def test_no_script_parses_numbers_without_a_range():
    """Options come from settings fields; scripts of their own (pack, fetch, convert) take files and names alone."""
    for path in [*ROOT.glob("*/*.py"), *ROOT.glob("deepprune/**/*.py")]:
        if path.parent.name != "tests" and path.name != "config.py":
            text = path.read_text()
            assert "type=int" not in text and "type=float" not in text, path


@pytest.mark.parametrize(
    "values", [{"tau": 1.5}, {"tau": float("nan")}, {"k": 0}, {"k1": True}, {"assign": "last"}, {"seed": -1}]
)
def test_cluster_settings_check_themselves(values):
    with pytest.raises(UserError, match=f"{next(iter(values))} should be"):
        ClusterSettings(**values)


def test_traces_fit_in_the_context_that_was_asked_for():
    check_context(100, None)
    check_context(100, 200)
    with pytest.raises(UserError, match="--max-tokens 200 and a prompt do not fit in --max-model-len 200"):
        check_context(200, 200)


def test_every_section_that_a_script_reads_may_stand_in_a_recipe():
    folders = ("scripts", "Preliminaries", "Offline", "Online", "LLaMA-Factory", "benchmarks")
    text = "".join(path.read_text() for folder in folders for path in (ROOT / folder).glob("*.py"))
    read = set(re.findall(r'config\.parse(?:_runs)?\(\s*\w+,\s*"(\w+)"', text))
    assert len(read) > 10 and read <= set(config.SECTIONS)

import dataclasses

import pytest

from deepprune import config
from deepprune.config import setting
from deepprune.errors import UserError


@dataclasses.dataclass
class Settings:
    output: str = setting(config.REQUIRED, "where to")
    rate: float = setting(0.5, "a rate")
    count: int = setting(3, "a count", free=True)
    names: list[str] = setting(["a"], "names")
    kind: str = setting("x", "a kind", choices=("x", "y"))
    maybe: int | None = setting(None, "may be none")
    flag: bool = setting(True, "a flag")


def parse(*argv):
    return config.parse(Settings, "prune", "doc", list(argv))


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_command_line_over_recipe_over_defaults(tmp_path):
    path = recipe(tmp_path, "prune:\n  rate: 1\n  count: 7\n  names: [b, c]\n  flag: false\n")
    settings = parse("--config", path, "--output", "o", "--count", "9")
    assert settings == Settings("o", 1.0, 9, ["b", "c"], "x", None, False)
    assert config.free_settings(Settings) == ("count",)


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
    cpu, paper = (config.read_yaml(f"scripts/recipes/{name}.yaml") for name in ("cpu", "paper"))
    assert set(cpu) == set(paper)

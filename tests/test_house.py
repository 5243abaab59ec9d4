"""The shape of the code: floors without upward imports or circles, functions on one screen, commands that exist."""

import ast
import re
from pathlib import Path

import pytest
from conftest import LONGEST as LONGEST_TESTS

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["base", "data", "engines", "judges", "prune", "evaluate"]
FOLDERS = ["deepprune", "Preliminaries", "Offline", "Online", "LLaMA-Factory", "scripts", "benchmarks", "tests"]
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEXTS = [*FILES, *ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("scripts/*.sh")]
PACKAGES = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "deepprune").rglob("__init__.py")}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "deepprune").rglob("*.py")
    if path.name != "__init__.py"
}
# Lines of a function, a class and a file; of a line ruff sees to.
LONGEST = {"function": 60, "class": 150, "file": 350}
# A module outside base/ that more than two other subpackages import, and why.
SHARED = {
    "deepprune.data.truncation": "a prefix is what the judge is trained on, asked about and what live pruning stops at",
}


def imports_of(path: Path) -> set[str]:
    """The modules of deepprune that a file imports, wherever in it; a package where its own names are imported."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name in MODULES or name in PACKAGES and name.count(".") > 0}


def floor_of(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


def test_every_module_is_on_a_floor_and_imports_none_above_it():
    for module, path in MODULES.items():
        above = [name for name in imports_of(path) if floor_of(name) > floor_of(module)]
        assert not above, f"{module} imports {above}"


def test_imports_form_no_circle():
    """Modules are taken away as soon as all that they import is gone; what stays is a circle."""
    left = {module: imports_of(path) - PACKAGES - {module} for module, path in MODULES.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert not left


def test_a_module_that_many_subpackages_import_has_a_reason():
    importers = {}
    for module, path in MODULES.items():
        for name in imports_of(path) & MODULES.keys():
            importers.setdefault(name, set()).add(module.split(".")[1])
    shared = {
        name: sorted(users - {name.split(".")[1]})
        for name, users in importers.items()
        if name.split(".")[1] != "base" and len(users - {name.split(".")[1]}) > 2
    }
    assert shared.keys() == SHARED.keys(), shared


def test_subpackages_say_what_is_in_them():
    for floor in FLOORS:
        text = ast.get_docstring(ast.parse((ROOT / "deepprune" / floor / "__init__.py").read_text()))
        assert "nothing else of deepprune" in text if floor == "base" else "Stands on" in text


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_classes_and_files_are_not_too_long(folder):
    too_long = []
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != folder:
            continue
        text = path.read_text()
        sizes = [("file", path.name, text.count("\n"))]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                kind = "class" if isinstance(node, ast.ClassDef) else "function"
                sizes.append((kind, f"{path.name}: {node.name}", node.end_lineno - node.lineno + 1))
        too_long += [size for size in sizes if size[2] > LONGEST[size[0]]]
    assert not too_long


def test_commands_in_pages_scripts_and_docstrings_exist():
    for path in TEXTS:
        text = path.read_text()
        for module in re.findall(r"-m (deepprune\.[\w.]*\w)", text):
            assert 'if __name__ == "__main__":' in MODULES[module].read_text(), f"{path}: python -m {module}"
        for file in re.findall(r"(?:python|bash) ((?:[\w-]+/)+[\w-]+\.(?:py|sh))\b", text):
            # docs/gpu.md unpacks the checkout into a folder of its name.
            assert (ROOT / file.removeprefix("deepprune/")).is_file(), f"{path}: {file}"


def test_every_script_has_help():
    """One without ran its hour when it was asked what it does."""
    for path in FILES:
        text = path.read_text()
        if "__main__" in text and path.relative_to(ROOT).parts[0] not in ("deepprune", "tests"):
            assert re.search(r"config\.parse|ArgumentParser|config\.Parser|--help", text), path


def test_the_longest_test_files_are_there():
    missing = [name for name in LONGEST_TESTS if not (ROOT / "tests" / f"{name}.py").is_file()]
    assert not missing

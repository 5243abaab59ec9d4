"""The shape of the code: floors without upward imports or circles."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["base", "data", "engines", "judges", "prune", "evaluate"]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "deepprune").rglob("*.py")
    if path.name != "__init__.py"
}


def imports_of(path: Path) -> set[str]:
    """The modules of deepprune that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name in MODULES or name == "deepprune.judges"}


def floor_of(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


def test_every_module_is_on_a_floor_and_imports_none_above_it():
    for module, path in MODULES.items():
        above = [name for name in imports_of(path) if floor_of(name) > floor_of(module)]
        assert not above, f"{module} imports {above}"


def test_imports_form_no_circle():
    """Modules are taken away as soon as all that they import is gone; what stays is a circle."""
    left = {module: imports_of(path) - {"deepprune.judges", module} for module, path in MODULES.items()}
    while free := [module for module, names in left.items() if not names & left.keys()]:
        for module in free:
            del left[module]
    assert not left


def test_subpackages_say_what_is_in_them():
    for floor in FLOORS:
        text = ast.get_docstring(ast.parse((ROOT / "deepprune" / floor / "__init__.py").read_text()))
        assert "nothing else of deepprune" in text if floor == "base" else "Stands on" in text

"""Cut this checkout, the packaged models and wheels into parts that travel to a machine without network.

    python scripts/pack_for_offline.py --output carry                                # code, data, SmolLM2-135M-Instruct
    python scripts/pack_for_offline.py --output carry --have have.txt --python 3.12  # and missing wheels

have.txt is what `python3 -m pip list --format=freeze` prints there. Wheels are those that training and the transformers
judge need, in the versions of requirements-cpu.txt, without torch and vLLM. What that machine has stays in its version.
Each part is carry/00/part, carry/01/part ... of at most --megabytes; docs/gpu.md says how they are put together there.
"""

import dataclasses
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.engines import models

ROOT = Path(__file__).resolve().parent.parent
DIRECT, LOCK, UPSTREAM = "requirements.txt", "requirements-cpu.txt", "requirements-llamafactory.txt"
NOT_CARRIED = {"torch", "triton"}  # another build than a GPU machine's
NOT_NEEDED = "# notebooks, tests"  # the comment above what is left out
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (39, 36, 35, 34, 31, 28, 27, 24, 17, 5)] + [
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
]


@dataclasses.dataclass
class PackSettings:
    output: str = setting(config.REQUIRED, "folder of the parts; it must not exist")
    megabytes: int = setting(54, "a part's largest size in MB (10^6 bytes)", at_least=1)
    models: list[str] = setting(
        ["HuggingFaceTB/SmolLM2-135M-Instruct"], "packaged models", choices=tuple(models.PACKAGED)
    )
    have: str | None = setting(None, "what pip lists on that machine: wheels of what it lacks are carried")
    python: str = setting("3.12", "that machine's Python", choices=("3.11", "3.12"))


class Parts:
    """A file to write to, that is cut into FOLDER/00/part, FOLDER/01/part ..."""

    def __init__(self, folder: Path, most: int):
        self.folder, self.most, self.count, self.left, self.file = folder, most, 0, 0, None

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            if not self.left:
                self.close()
                place = self.folder / f"{self.count:02d}"
                place.mkdir(parents=True)
                self.file = open(place / "part", "wb")
                self.count, self.left = self.count + 1, self.most
            piece, view = view[: self.left], view[self.left :]
            self.file.write(piece)
            self.left -= len(piece)
        return len(data)

    def close(self) -> None:
        if self.file:
            self.file.close()


def plain(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    """Plain name -> NAME==VERSION of a list of requirements, without those for notebooks and tests."""
    rows = (
        re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(?:==|@)", line)
        for line in path.read_text().partition(NOT_NEEDED)[0].splitlines()
    )
    return {plain(row[1]): row.string for row in rows if row}


def needed_by(names: set[str]) -> set[str]:
    """Packages and all that they need, by what is installed here."""
    needed: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        needed.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted = (Requirement(text) for text in requires)
        waiting |= {plain(r.name) for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})} - needed
    return needed


def lacking(have: Path) -> list[str]:
    """NAME==VERSION of what the stages need and the other machine has in no version."""
    if not have.is_file():
        raise UserError(f"{have}: no such file (the output of: python3 -m pip list --format=freeze)")
    needed = needed_by(set(pinned(ROOT / DIRECT)) - NOT_CARRIED)
    there = {*pinned(have), *NOT_CARRIED}
    locked = pinned(ROOT / LOCK)
    return [locked[name] for name in sorted(needed - there) if name in locked] + [
        line for name, line in pinned(ROOT / UPSTREAM).items() if name not in there
    ]


def fetch_wheels(wanted: list[str], python: str, folder: Path) -> None:
    """Download wheels for the other machine.

    What is published as source alone is built here, and left out if it does not fit there.
    Raises UserError for what can be had neither way.
    """
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    binary = ("download", "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms, "-d")
    for requirement in wanted:
        if pip(*binary, folder, requirement) is None:
            print(f"  {requirement}")
            continue
        with tempfile.TemporaryDirectory() as built:
            error = pip("wheel", "-w", built, requirement)
            if error is not None:
                raise UserError(f"{requirement}: no wheel for Python {python}, and none can be built here: {error}")
            (wheel,) = Path(built).glob("*.whl")
            fits = fits_everywhere(wheel.name) or python == f"{sys.version_info.major}.{sys.version_info.minor}"
            if fits:
                shutil.move(wheel, folder)
            left_out = f": left out: it is published as source, and built here it is not for Python {python}"
            print(f"  {requirement}{'' if fits else left_out}")


def fits_everywhere(wheel: str) -> bool:
    """Whether a wheel, by its name, holds no compiled code."""
    return wheel.endswith("-none-any.whl")


def pip(what: str, *options: str | Path) -> str | None:
    """Run pip without looking at what a package needs; its last line if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", what, "-q", "--no-deps", *options], capture_output=True, text=True
    )
    return (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else None


@command
def main() -> None:
    settings = config.parse(PackSettings, None, __doc__)
    output = Path(settings.output)
    if output.exists():
        raise UserError(f"{output} exists: delete it, or choose another folder")
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if tracked.returncode:
        raise UserError(f"{ROOT} is no git checkout, so that its files are not known")
    parts = Parts(output, settings.megabytes * 10**6)
    with tempfile.TemporaryDirectory() as wheels, tarfile.open(fileobj=parts, mode="w|") as tar:
        if settings.have:
            fetch_wheels(lacking(Path(settings.have)), settings.python, Path(wheels))
        for name in tracked.stdout.split("\0")[:-1]:
            if (ROOT / name).is_file():
                tar.add(ROOT / name, f"deepprune/{name}")
        for model in settings.models:
            folder = models.from_package(model)
            tar.add(folder, f"cache/models/{folder.name}")
        for wheel in sorted(Path(wheels).glob("*.whl")):
            tar.add(wheel, f"wheels/{wheel.name}")
    parts.close()
    size = sum(part.stat().st_size for part in output.glob("*/part"))
    print(f"{output}: {parts.count} parts, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()

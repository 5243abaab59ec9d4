"""Kill the demo at random moments, go on with the same command, compare its report with an undisturbed run's.

    .venv/bin/python benchmarks/kill_demo.py                 # a small demo; half an hour on two idle cores
    .venv/bin/python benchmarks/kill_demo.py --whole-size    # the demo as it is; more than an hour

Runs scripts/run_demo.sh to the end into results/kill/small/whole (or whole-size/whole), then into .../killed, whose
processes get SIGKILL again and again. Prints where each kill fell, and every number of the two report.json that
differs. Exit code 1 if one does. Run it again to go on: what is finished stays; delete results/kill to begin anew.
"""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from deepprune.base import config, jsonl
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command

ROOT = Path(__file__).resolve().parent.parent
# After so few rows the model is no judge yet: its labels need not be likely.
SMALL = {"DEMO_ROWS": "40", "DEMO_TEST_PAIRS": "1", "DEMO_PROBLEMS": "3", "DEMO_TRACES": "12", "DEMO_LABEL_MASS": "0"}
NO_NUMBERS = ("inputs", "commit", "packages")  # hashes of files that hold times, and what made them
DONE = "the demo was done before"


@dataclasses.dataclass
class KillSettings:
    kills: int = setting(10, "how often the second run is killed", at_least=1)
    seed: int = config.seed("seed of the moments")
    whole_size: bool = setting(False, "the demo as it is, not a small one")


@command
def main() -> None:
    settings = config.parse(KillSettings, None, __doc__)
    sizes = {} if settings.whole_size else SMALL
    folder = ROOT / "results" / "kill" / ("whole-size" if settings.whole_size else "small")
    seconds = undisturbed(folder, sizes)
    moments = random.Random(settings.seed)
    waits = [1 + moments.uniform(0, 2.5 * seconds / settings.kills) for _ in range(settings.kills)]
    note = folder / "kills.json"
    kills = json.loads(note.read_text()) if note.is_file() else []
    for wait in waits[len(kills) :]:
        kills.append(run(folder / "killed", sizes, wait))
        jsonl.write_json(note, kills)
        print(f"{len(kills)}: after {wait:.0f} s: {kills[-1]}", flush=True)
    run(folder / "killed", sizes)
    whole, killed = (numbers(json.loads((folder / name / "report.json").read_text())) for name in ("whole", "killed"))
    differing = [place for place in sorted(whole | killed) if whole.get(place) != killed.get(place)]
    for place in differing:
        print(f"{place}: {whole.get(place)} undisturbed, {killed.get(place)} killed")
    times = sum(where != DONE for where in kills)
    print(f"killed {times} times; {len(whole)} values of the report compared, {len(differing)} differ")
    sys.exit(bool(differing))


def undisturbed(folder: Path, sizes: dict[str, str]) -> float:
    """The seconds of a demo that nobody kills; it is run if it was not yet."""
    note = folder / "seconds.json"
    if not note.is_file():
        started = time.monotonic()
        run(folder / "whole", sizes)
        jsonl.write_json(note, time.monotonic() - started)
    return json.loads(note.read_text())


def run(folder: Path, sizes: dict[str, str], wait: float | None = None) -> str:
    """Run the demo into a folder; with `wait` kill it after so many seconds. Returns its last step and line, or DONE.

    Raises UserError if the demo fails.
    """
    demo = subprocess.Popen(
        ["bash", "scripts/run_demo.sh"],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | sizes | {"DEMO_OUT": str(folder.relative_to(ROOT))},
    )
    try:
        output, _ = demo.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        os.killpg(demo.pid, signal.SIGKILL)
        output, _ = demo.communicate()
        steps = re.findall(r"^== .*", output, re.MULTILINE)
        return f"{steps[-1] if steps else 'set-up'}: {(output.strip().splitlines() or ['nothing said'])[-1]}"
    if demo.returncode:
        print(output)
        raise UserError(f"the demo ended with exit code {demo.returncode}; what it said stands above")
    return DONE


def numbers(value: object, place: str = "") -> dict[str, object]:
    """The values of a report.json, by their place in it."""
    if isinstance(value, dict):
        inner = {key: part for key, part in value.items() if place or key not in NO_NUMBERS}
    elif isinstance(value, list):
        inner = dict(enumerate(value))
    else:
        return {place: value}
    return {at: leaf for key, part in inner.items() for at, leaf in numbers(part, f"{place}/{key}").items()}


if __name__ == "__main__":
    main()

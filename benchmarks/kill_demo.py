"""Kill the demo at random moments, go on with the same command, compare its report with an undisturbed run's.

    python benchmarks/kill_demo.py --kills 10                    # a small demo; half an hour on two cores
    python benchmarks/kill_demo.py --kills 10 --whole-size       # the demo as it is; more than an hour

Runs scripts/run_demo.sh to the end into results/kill/whole, then into results/kill/killed, whose processes get SIGKILL
again and again. Prints where each kill fell, and every number of the two report.json that differs. Exit code 1 if one
does. Run it again to go on: what is finished stays.
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

from deepprune.base import config
from deepprune.base.config import setting
from deepprune.base.stage import command

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("results/kill")
# After so few rows the model is no judge yet: its labels need not be likely.
SMALL = {"DEMO_ROWS": "40", "DEMO_TEST_PAIRS": "1", "DEMO_PROBLEMS": "3", "DEMO_TRACES": "12", "DEMO_LABEL_MASS": "0"}
NO_NUMBERS = ("inputs", "commit", "packages")  # hashes of files that hold times, and what made them


@dataclasses.dataclass
class KillSettings:
    kills: int = setting(10, "how often the second run is killed", at_least=1)
    seed: int = config.seed("seed of the moments")
    whole_size: bool = setting(False, "the demo as it is, not a small one")


@command
def main() -> None:
    args = config.parse(KillSettings, None, __doc__)
    sizes = {} if args.whole_size else SMALL
    note = FOLDER / "seconds.json"
    if note.is_file():
        seconds = json.loads(note.read_text())
    else:
        started = time.monotonic()
        run("whole", sizes)
        seconds = time.monotonic() - started
        note.write_text(json.dumps(seconds))
    killed = FOLDER / "kills.json"
    kills = json.loads(killed.read_text()) if killed.is_file() else []
    rng = random.Random(args.seed)
    waits = [rng.uniform(1, 2.5 * seconds / args.kills) for _ in range(args.kills)]
    for wait in waits[len(kills) :]:
        where = run("killed", sizes, wait)
        kills.append(where)
        killed.write_text(json.dumps(kills))
        print(f"kill {len(kills)} after {wait:.0f} s: {where}", flush=True)
    run("killed", sizes)
    whole, other = (numbers(FOLDER / name / "report.json") for name in ("whole", "killed"))
    differing = [key for key in sorted(whole | other) if whole.get(key) != other.get(key)]
    for key in differing:
        print(f"{key}: {whole.get(key)} undisturbed, {other.get(key)} after {len(kills)} kills")
    print(f"{len(whole)} values of the report compared, {len(differing)} differ")
    sys.exit(bool(differing))


def run(name: str, sizes: dict[str, str], wait: float | None = None) -> str:
    """Run the demo into a folder of that name; with `wait` kill it after so many seconds. Returns its last step."""
    (FOLDER / name).mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        ["bash", "scripts/run_demo.sh"],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | sizes | {"DEMO_OUT": str(FOLDER / name)},
    )
    try:
        said, _ = child.communicate(timeout=wait)
        if child.returncode:
            sys.exit(f"the demo ended with exit code {child.returncode}:\n{said}")
        return "it was done before"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        said, _ = child.communicate()
    steps = re.findall(r"^== .*", said, re.MULTILINE)
    return f"{steps[-1] if steps else 'set-up'}: {said.strip().splitlines()[-1]}"


def numbers(report: Path) -> dict[str, object]:
    """The values of a report.json, by their place in it."""
    result = {}

    def walk(value, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{place}/{key}")
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                walk(inner, f"{place}/{number}")
        else:
            result[place] = value

    walk({key: value for key, value in json.loads(report.read_text()).items() if key not in NO_NUMBERS}, "")
    return result


if __name__ == "__main__":
    main()

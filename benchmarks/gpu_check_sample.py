"""Stage 01 with the token ids of its traces written beside them: TOKEN_IDS.jsonl, then stage 01's own options.

    python benchmarks/gpu_check_sample.py ids.jsonl --problems DeepPrune_data/problems/words.jsonl \
        --model SmolLM2-135M-Instruct --n 4 --output traces.jsonl

Trace records hold texts and counts only. What is written is what the engine gives to the stage, so that gpu_check.py
can hold the records against it. A record: {"request": "6c1f.../3", "token_ids": [504, 3230]}
"""

import runpy
import sys
from pathlib import Path

from deepprune.base import jsonl, runtime
from deepprune.engines import engine

STAGE = Path(__file__).resolve().parent.parent / "scripts" / "01_sample_traces.py"


def keeping(run, path: str):
    """engine.run, that appends each finished request's token ids to a file."""

    def run_and_keep(*args, **options):
        with jsonl.Appender(path) as out:
            for request, output in run(*args, **options):
                out.append({"request": request, "token_ids": list(output.outputs[0].token_ids)})
                yield request, output

    return run_and_keep


if __name__ == "__main__":
    if len(sys.argv) < 2 or {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        sys.exit()
    runtime.ensure()
    engine.run = keeping(engine.run, sys.argv[1])
    sys.argv[:2] = [str(STAGE)]
    runpy.run_path(str(STAGE), run_name="__main__")

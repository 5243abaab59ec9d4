"""Zero-shot judge: an instruct model, not trained for it, says whether two partial traces will agree.

    python Preliminaries/zero_shot_exp.py --config scripts/recipes/cpu.yaml \
        --model HuggingFaceTB/SmolLM2-135M-Instruct --output results/demo/scores_zero_shot.jsonl

Same prompt, same label tokens and same scoring as the trained judge of stage 04, on vLLM; any backbone by folder
or hub id (the paper: Qwen/Qwen3-4B-Instruct-2507, AUROC 0.66). A judge that stage 03 trained is refused: it would
not be zero-shot. A model that would rather answer something else than the two labels is refused as well, with what that
is (SmolLM2 gives them 0.02 of the probability: "Yes", not "yes"); --least-label-mass 0 compares its labels all the
same, and the manifest says how much they had. Each score is on disk when it is known; a killed run goes on with the
same command.

A record: {"pair_id": "77ab...", "judge": "HuggingFaceTB/SmolLM2-135M-Instruct@1f3c9a2b", "p_same": 0.44,
           "verdict": false, "prompt_tokens": 312, "cached_tokens": 160}
"""

import dataclasses
from pathlib import Path

from deepprune import judges
from deepprune.base import config, runtime
from deepprune.base.config import setting
from deepprune.base.errors import UserError
from deepprune.base.stage import command
from deepprune.engines import models
from deepprune.judges import profiles, scoring


@dataclasses.dataclass
class ZeroShotSettings(scoring.ModelSettings):
    model: str = setting(config.REQUIRED, "the instruct model: folder or hub id")


@command
def main() -> None:
    settings = config.parse(ZeroShotSettings, "evaluate", __doc__)
    refuse_trained(settings.model)
    kind = settings.kind_of_judge("vllm")
    if judges.KINDS[kind].needs_vllm:
        runtime.ensure()
    described = judges.describe(kind, settings.model, judge_profile=settings.judge_profile)
    name = "zero-shot" if kind == "vllm" else "zero-shot on a server"
    made_from = config.resolved(settings) | {"judge": name, "prompt_version": described["prompt_version"]}
    made_from.pop("pairs"), made_from.pop("model")

    scoring.run(settings, described, lambda: judges.open_judge(kind, settings.model, settings), made_from)


def refuse_trained(model: str) -> None:
    """Raise UserError for an adapter, or for weights whose manifest says that stage 03 made them."""
    folder = Path(models.resolve(model).path)
    if profiles.trained_here(folder) or (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{model} is a trained judge, not a zero-shot one; score it with Offline/test_model_performance_parallel.py"
        )


if __name__ == "__main__":
    main()

"""Stage 04: score the test pairs with a judge, many at once, and print AUROC, TNR@0.2 and accuracy.

    python Offline/test_model_performance_parallel.py --config scripts/recipes/cpu.yaml \
        --model results/demo/judge --output results/demo/scores.jsonl

--model takes full weights or a LoRA adapter folder. Each score is on disk when it is known; a killed run goes
on with the same command. (Sentence-BERT and untrained models: see Preliminaries/.)

A record: {"pair_id": "77ab...", "judge": "judge@1f3c9a2b", "p_same": 0.81, "verdict": true,
           "prompt_tokens": 312, "cached_tokens": 160}
"""

import dataclasses

from deepprune import judges
from deepprune.base import config, runtime
from deepprune.base.config import setting
from deepprune.base.stage import command
from deepprune.judges import scoring


@dataclasses.dataclass
class EvaluateSettings(scoring.ModelSettings):
    judge: str = setting("vllm", "kind of judge", choices=judges.kinds(per_trace=False))
    model: str | None = setting(None, "the judge's model: folder, LoRA adapter folder or hub id")


@command
def main() -> None:
    settings = config.parse(EvaluateSettings, "evaluate", __doc__)
    settings.judge = settings.kind_of_judge(settings.judge)
    if judges.KINDS[settings.judge].needs_vllm:
        runtime.ensure()
    described = judges.describe(settings.judge, settings.model, settings.seed, settings.judge_profile)
    made_from = config.resolved(settings) | {"prompt_version": described["prompt_version"]}
    made_from.pop("pairs"), made_from.pop("model")
    profile = judges.profile_of(settings.judge, settings.model, settings.judge_profile)

    def open_judge() -> judges.Judge:
        return judges.open_judge(settings.judge, settings.model, settings)

    scoring.run(settings, described, open_judge, made_from, profile)


if __name__ == "__main__":
    main()

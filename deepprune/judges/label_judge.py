"""What judges that are language models have in common: weights, tokenizer, and the prompts of their profile."""

from __future__ import annotations

from deepprune.base import console
from deepprune.engines import models
from deepprune.judges.interface import Judge, PromptTooLong, Request
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import profile_of
from deepprune.judges.settings import JudgeOptions
from deepprune.judges.weights import prepare


class LabelJudge(Judge):
    """A causal language model that answers with one of the two labels of its profile.

    context: tokens of a prompt and its answer that it reads; None: not known.
    """

    context: int | None = None

    def __init__(self, model: str, options: JudgeOptions, **tokenizer_options):
        from transformers import AutoTokenizer

        self.name, self.folder = prepare(model)
        self.parameters = models.parameters(self.folder)
        profile = profile_of(model, options.judge_profile)
        if profile.unknown:
            print(
                f"{model}: of its profile {', '.join(profile.unknown)} {'is' if len(profile.unknown) == 1 else 'are'} "
                "guessed: scores mean something only where the labels have most of the probability",
                file=console.errors(),
            )
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder, **tokenizer_options)
        self.prompts = PairPrompts(profile, self.tokenizer)
        self.labels_shown = profile.labels

    def ids(self, r: Request) -> list[int]:
        """The prompt's token ids. Raises PromptTooLong if the judge cannot read it and answer."""
        ids, answer = self.prompts.ids(r), max(map(len, self.prompts.steps)) + 1
        if self.context is not None and len(ids) + answer > self.context:
            raise PromptTooLong(
                f"a judge prompt is {len(ids)} tokens (traces {r.trace_a}, {r.trace_b}), the judge reads at most "
                f"{self.context - answer}: raise max_model_len or truncate the traces shorter"
            )
        return ids

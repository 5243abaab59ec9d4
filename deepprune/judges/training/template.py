"""Whether LLaMA-Factory's template writes the prompt that evaluation and clustering ask."""

from __future__ import annotations

import copy
from typing import Any

from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.judges.interface import Request
from deepprune.judges.pair_prompts import PairPrompts
from deepprune.judges.profiles import Profile
from deepprune.judges.training.recipe import Recipe

SAMPLE = ("What is 1 + 1?", "We add\n\n1 and 1", "The sum")


def check_template(recipe: Recipe, model: models.ResolvedModel, profile: Profile) -> PairPrompts:
    """Refuse a template whose prompt is not, token for token, the one that evaluation and clustering will ask.

    Returns the profile's prompts in the model's tokens. Raises UserError that names the templates that fit the model.
    """
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    where = recipe.where("model_name_or_path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {model.name}: its tokenizer cannot be loaded: {error}") from error
    try:
        prompts = PairPrompts(profile, tokenizer)
        wanted = [*prompts.ids(Request(*SAMPLE, "a", "b")), *prompts.labels[1]]
    except UserError as error:  # no chat template, or one that takes no question
        raise UserError(f"{where}: {error}") from error

    def writes(name: str, thinking: bool) -> bool:
        return written(name, thinking, profile, tokenizer)[: len(wanted)] == wanted

    template, thinking = str(recipe.args["template"]), recipe.args.get("enable_thinking", True)
    if template not in TEMPLATES or not writes(template, thinking):
        names = sorted(TEMPLATES)
        fitting = [name for name in names if writes(name, True)]
        fitting += [
            f"{name} with enable_thinking=false" for name in names if name not in fitting and writes(name, False)
        ]
        raise UserError(
            f"{recipe.where('template')}: template {template!r} does not write the prompt as {model.name}'s own chat "
            "template does, so the judge would be asked otherwise than it was trained; "
            f"fitting: {', '.join(fitting) or 'none'}"
        )
    return prompts


def written(template: str, thinking: bool, profile: Profile, tokenizer: Any) -> list[int]:
    """Token ids of the sample's prompt and answer as LLaMA-Factory's template writes them; none where it cannot."""
    from llamafactory.data.template import TEMPLATES

    row = profile.training_row(*SAMPLE, 1)
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
    built = copy.copy(TEMPLATES[template])
    built.enable_thinking = thinking
    try:
        prompt, answer = built.encode_oneturn(tokenizer, turns, row["system"])
        return [*prompt, *answer]
    except (ValueError, TypeError, AttributeError, RuntimeError):  # a template for another kind of tokenizer
        return []

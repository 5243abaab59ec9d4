"""Whether LLaMA-Factory's template writes the prompt that evaluation and clustering ask."""

from __future__ import annotations

import copy
from typing import Any

from deepprune.base.errors import UserError
from deepprune.engines import models
from deepprune.judges import prompts
from deepprune.judges.training.recipe import Recipe

SAMPLE = ("What is 1 + 1?", "We add\n\n1 and 1", "The sum")


def check_template(recipe: Recipe, model: models.ResolvedModel) -> Any:
    """Refuse a template whose prompt is not, token for token, the one that evaluation and clustering will ask.

    Returns the model's tokenizer. Raises UserError that names the templates that fit the model.
    """
    from llamafactory.data.template import TEMPLATES
    from transformers import AutoTokenizer

    where = recipe.where("model_name_or_path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.path)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {model.name}: its tokenizer cannot be loaded: {error}") from error
    try:
        wanted = prompts.prompt_ids(tokenizer, *SAMPLE)
    except UserError as error:  # no chat template, or one that takes no question
        raise UserError(f"{where}: {error}") from error

    template, thinking = str(recipe.args["template"]), recipe.args.get("enable_thinking", True)
    if template not in TEMPLATES or prompt_of(template, thinking, tokenizer) != wanted:
        names = sorted(TEMPLATES)
        fitting = [name for name in names if prompt_of(name, True, tokenizer) == wanted]
        fitting += [
            f"{name} with enable_thinking=false"
            for name in names
            if name not in fitting and prompt_of(name, False, tokenizer) == wanted
        ]
        raise UserError(
            f"{recipe.where('template')}: template {template!r} does not write the prompt as {model.name}'s own chat "
            "template does, so the judge would be asked otherwise than it was trained; "
            f"fitting: {', '.join(fitting) or 'none'}"
        )
    return tokenizer


def prompt_of(template: str, thinking: bool, tokenizer: Any) -> list[int]:
    """Token ids of the sample's prompt as LLaMA-Factory's template writes it; none where it cannot."""
    from llamafactory.data.template import TEMPLATES

    row = prompts.training_row(*SAMPLE, 1)
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
    built = copy.copy(TEMPLATES[template])
    built.enable_thinking = thinking
    try:
        return built.encode_oneturn(tokenizer, turns, row["system"])[0]
    except (ValueError, TypeError, AttributeError, RuntimeError):  # a template for another kind of tokenizer
        return []

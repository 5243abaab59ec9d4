"""The models that the endpoint offers: one a method, NAME-METHOD-N, as Qwen3-8B-adaptive-16.

The last number is the most traces of a question; any number up to the limit is taken, listed or not.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

from deepprune.base.errors import UserError
from deepprune.prune.endpoint.refusals import Refusal, bad
from deepprune.prune.methods import METHODS


@dataclasses.dataclass(frozen=True)
class Offer:
    """A method with its settings (None: the defaults). method: a name of METHODS."""

    method: str
    options: Any = None

    @property
    def needs_judge(self) -> bool:
        return METHODS[self.method].needs_judge


class Catalogue:
    """name: the first part of every model's name; offers: by the second part; listed: METHOD-N each; most: traces."""

    def __init__(self, name: str, offers: Mapping[str, Offer], listed: list[str], most: int):
        self.name, self.most, self.created = name, most, int(time.time())
        self.offers: dict[str, Offer] = {}
        self.models: list[str] = []
        for entry in listed:
            method, _, count = entry.rpartition("-")
            if method not in offers or not count.isascii() or not count.isdigit() or not 1 <= int(count) <= most:
                raise UserError(
                    f"--models takes METHOD-N, METHOD one of {', '.join(offers)} and N from 1 to --most-traces {most}; "
                    f"found {entry!r}"
                )
            self.offers[method] = offers[method]
            self.models.append(f"{name}-{entry}")

    def find(self, model: str) -> tuple[str, Offer, int]:
        """(method's name, offer, most traces) of a model's name. Raises Refusal: 404 for no model of ours, 400 for a
        number of traces that is none or too large."""
        parts = re.fullmatch(rf"{re.escape(self.name)}-(.+)-(\d+)", model, re.ASCII)
        if not parts or parts[1] not in self.offers:
            raise Refusal(
                404,
                f"The model {model[:200]!r} does not exist; there are {', '.join(self.models)}",
                param="model",
                code="model_not_found",
            )
        count = int(parts[2]) if len(parts[2]) < 10 else self.most + 1
        if not 1 <= count <= self.most:
            raise bad(
                f"model: the number of traces at its end should be from 1 to {self.most}, found {parts[2][:20]}",
                "model",
            )
        return parts[1], self.offers[parts[1]], count

    def row(self, model: str) -> dict[str, Any]:
        """A model as /v1/models lists it."""
        method, offer, count = self.find(model)
        return {
            "id": model,
            "object": "model",
            "created": self.created,
            "owned_by": "deepprune",
            "deepprune": {"method": method, "n": count, "needs_judge": offer.needs_judge},
        }

"""Rows of a data set of the hub, streamed through `datasets`: `hf:NAME`, `hf:NAME:SPLIT`, `hf:NAME:CONFIG:SPLIT`.

NAME is a hub id, or a local folder that `datasets` can load: data files without a script, or one that it saved itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deepprune.base.errors import UserError
from deepprune.data.import_rows import Row, shorten

PREFIX = "hf:"


def is_one(source: str) -> bool:
    return source.startswith(PREFIX)


def folder(source: str) -> Path | None:
    """The local folder of a data set; None for one of the hub."""
    path = Path(_parts(source)[0])
    return path if path.is_dir() else None


def _parts(source: str) -> tuple[str, str | None, str | None]:
    """(name, config, split) of a source."""
    name, *rest = source.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2 or not all(rest):
        raise UserError(f"{source}: a data set is given as hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    return name, rest[0] if len(rest) == 2 else None, rest[-1] if rest else None


def revision_of(source: str) -> dict[str, str]:
    """{"dataset_revision": the commit of a hub data set as it is now}; {} for files and local folders.

    Raises UserError if no hub answers.
    """
    if not is_one(source) or folder(source):
        return {}
    import huggingface_hub

    try:
        return {"dataset_revision": huggingface_hub.HfApi().dataset_info(_parts(source)[0]).sha}
    except Exception as error:  # noqa: BLE001 - the hub client raises many kinds
        raise _cannot_be_loaded(source, error) from error


def _cannot_be_loaded(source: str, error: Exception) -> UserError:
    said = " ".join(str(error).split())
    return UserError(
        f"{source}: cannot be loaded ({type(error).__name__}: {said:.300}); is the name right, and does the hub "
        "answer? Local files are given without hf:"
    )


def rows(source: str, dataset_revision: str | None = None) -> Iterator[Row]:
    """The rows of one split. Raises UserError for a data set with several, where none is named."""
    splits, split = _splits(source, dataset_revision), _parts(source)[2]
    if split is None and len(splits) > 1:
        raise UserError(f"{source} has the splits {', '.join(map(str, splits))}; name one: hf:NAME:SPLIT")
    if split is not None and split not in splits:
        raise UserError(f"{source}: no such split; there are {', '.join(map(str, splits))}")
    number, chosen = 0, splits[split or next(iter(splits))]
    kinds = {name: getattr(kind, "dtype", None) for name, kind in (getattr(chosen, "features", None) or {}).items()}
    floats = {name: kind for name, kind in kinds.items() if kind in ("float16", "float32")}
    try:
        for number, data in enumerate(chosen, 1):
            row = dict(data)
            shorten(row, floats)
            yield Row(source, number, row, "row")
    except Exception as error:  # noqa: BLE001 - so do `datasets` and the readers under it
        raise _cannot_be_loaded(f"{source}, row {number + 1}", error) from error


def _splits(source: str, commit: str | None) -> dict:
    """Split -> its rows, to iterate over."""
    import datasets

    name, config, _ = _parts(source)
    path = folder(source)
    try:
        if path and any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):  # by save_to_disk
            saved = datasets.load_from_disk(str(path))
            return saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
        return datasets.load_dataset(name, config, streaming=True, revision=commit)
    except Exception as error:  # noqa: BLE001
        several = re.search(r"Config name is missing.*?\[(.*?)\]", str(error), re.DOTALL)
        if several:
            names = several[1].replace("'", "")
            raise UserError(f"{source} has the configurations {names}; name one: hf:NAME:CONFIG:SPLIT") from error
        raise _cannot_be_loaded(source, error) from error

"""A disk that is full or cannot be written: told from other errors, and said in words that name file and disk."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepprune.base.errors import UserError

# What stands for ENOSPC, EDQUOT and EFBIG in errors that are no OSError: of safetensors, torch and SQLite.
_SAID = {
    errno.ENOSPC: ("no space left on device", "(os error 28)", "database or disk is full", "file write failed"),
    errno.EDQUOT: ("disk quota exceeded", "(os error 122)"),
    errno.EFBIG: ("file too large", "(os error 27)"),
    errno.EROFS: ("read-only file system", "(os error 30)", "attempt to write a readonly database"),
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MEANS = {
    errno.ENOSPC: "no space left: {disk}; make room",
    errno.EDQUOT: "the disk quota is used up: {disk}; make room or ask for more",
    errno.EFBIG: "larger than a file may be here (ulimit -f, or the file system's limit: {disk}); raise it",
    errno.EROFS: "a read-only file system: {disk}; choose another place or make it writable",
    errno.EACCES: "permission denied; choose another place or make it accessible to this user",
    errno.EPERM: "not permitted; choose another place",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk cannot be read or written (an input/output error: {disk})",
}


def storage_trouble(error: BaseException | None, *candidates: Any) -> str | None:
    """What a full or unwritable disk did, in words that name file and disk, if that is behind an error; else None.

    candidates: what may have been written, for errors that do not say. Looks along the chain of causes, and for a full
    disk also at what was being handled when the error came.
    """
    first, seen = error, set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = error.errno if isinstance(error, OSError) else None
        if number not in _MEANS:
            text = str(error).lower()
            number = next((n for n, said in _SAID.items() if any(words in text for words in said)), None)
        if number is not None and (number in _FULL or error is first):
            named = error.filename if isinstance(error, OSError) else None
            where = [os.fsdecode(place) for place in ([named] if isinstance(named, str | bytes) else candidates)]
            if number == errno.ENOSPC:  # of several, those that are full, if any still is
                where = [place for place in where if _free(place) < 100e6] or where
            disks = dict.fromkeys(map(disk_of, where or [os.getcwd()]))
            return f"{' or '.join(where) or 'a file'}: {_MEANS[number].format(disk='; '.join(disks))}"
        error = error.__cause__ or error.__context__
    return None


def _existing(path: Any) -> Path:
    """A path, or the nearest folder above it that is there."""
    here = Path(os.fsdecode(path)).absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here


def _free(path: Any) -> float:
    """Bytes that are free where a path lies or would; infinite where the system does not say."""
    try:
        stat = os.statvfs(_existing(path))
    except OSError:
        return math.inf
    return stat.f_bavail * stat.f_frsize if stat.f_favail or not stat.f_files else 0


def disk_of(path: Any) -> str:
    """The disk that a path lies on (or would), and what is free there: '/data, 0.0 of 2.0 MB free'."""
    here = Path(os.fsdecode(path)).absolute()
    try:
        here = _existing(path)
        device, stat = here.stat().st_dev, os.statvfs(here)
        while here != here.parent and here.parent.stat().st_dev == device:
            here = here.parent
    except OSError:
        return str(here)
    if stat.f_files and not stat.f_favail:
        return f"{here}, no room for another file (its {stat.f_files:,} inodes are used)"
    size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{here}, {free / unit:.1f} of {size / unit:.1f} {name} free"


@contextlib.contextmanager
def writing(path: Any, remedy: str = "what was written before is kept, run the same command again") -> Iterator[None]:
    """Around what writes `path`: a full or unwritable disk becomes a UserError that names both, whoever found it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        trouble = storage_trouble(error, path)
        if trouble is None:
            raise
        raise UserError(f"{trouble}; {remedy}") from error

"""Importing the pip-installed LLaMA-Factory, which asks for other package versions than it runs with here."""

from __future__ import annotations

import contextlib
import os
import sys
import types

from deepprune.base import console
from deepprune.base.errors import UserError

UPSTREAM = "0.9.5"


def import_llamafactory() -> None:
    """Import LLaMA-Factory, whose version bounds and need for torchaudio do not fit the environment."""
    # It asks for older versions of transformers and others than it is tested with here (see README.md).
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARNING")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import transformers.utils.import_utils  # noqa: F401 - before the stand-in: it probes for the real package

    try:
        import torchaudio  # noqa: F401

        stand_in = False
    except (ImportError, OSError):  # OSError: a build for another torch
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        stand_in = True
    try:
        with contextlib.redirect_stdout(sys.stderr):  # to which its log goes from then on: it is no result
            import llamafactory.extras.env
            import llamafactory.train.tuner  # noqa: F401
    except ImportError as error:
        raise UserError(f"LLaMA-Factory cannot be imported ({error}); run scripts/setup.sh") from error
    finally:
        if stand_in:  # imported once for audio data, which we have not; nothing else should find it
            del sys.modules["torchaudio"]
    if llamafactory.extras.env.VERSION != UPSTREAM:
        installed = llamafactory.extras.env.VERSION
        print(f"warning: llamafactory {installed} is installed, {UPSTREAM} is tested", file=console.errors())

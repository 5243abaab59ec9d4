"""One way to tell a user what is wrong: a UserError is one line that names the file and the remedy."""

from __future__ import annotations

import re
from typing import Any


class UserError(Exception):
    """Bad input or settings. The message names the file (and line) and the remedy, on one line."""


def without_credentials(text: Any) -> Any:
    """The text, its URLs without user and password: http://me:secret@host/v1 -> http://host/v1; in dicts, lists too."""
    if isinstance(text, dict):
        return {without_credentials(key): without_credentials(value) for key, value in text.items()}
    if isinstance(text, list | tuple):
        return [without_credentials(value) for value in text]
    if not isinstance(text, str):
        return text
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s\"'<>]*@", r"\1", text)

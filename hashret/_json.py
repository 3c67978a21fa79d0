"""JSON objects that a user wrote, on a command line, in a form or in a file. Knows nothing of what they say."""

from __future__ import annotations

import json
from typing import Any

from hashret.errors import InputError

MAX_DEPTH = 100
"""Of metadata that can be stored."""


def json_object(text: str, name: str) -> dict[str, Any]:
    """The object that a text is.

    Args:
        text: JSON.
        name: what the user calls it, for the error.

    Raises:
        InputError: it is no JSON object, or one too deep or with too long a number for Python to read.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'{name} must be a JSON object such as {{"year": 2019}}: {error}') from error
    if not isinstance(value, dict):
        raise InputError(f'{name} must be a JSON object such as {{"year": 2019}}')
    return value

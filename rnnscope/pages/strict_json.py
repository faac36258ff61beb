"""JSON as every program reads it: in ASCII, with NaN and infinities as the strings "nan", "inf" and "-inf"."""

import json
import math
from typing import Any

from rnnscope.errors import RnnscopeError


def json_text(facts: dict[str, Any]) -> str:
    """One document, to be read by people too."""
    return json.dumps(_strict(facts), indent=2, allow_nan=False) + "\n"


def json_line(facts: dict[str, Any]) -> str:
    """One document on one line."""
    return json.dumps(_strict(facts), separators=(",", ":"), allow_nan=False) + "\n"


def parsed(text: str | bytes, hint: str) -> Any:
    """What one document says.

    Raises:
        RnnscopeError: no document, with why not, and with the hint.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        is_plain = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))  # others speak of Python's own limits
        why = str(error) if is_plain else "too deep, or a number too long"
        raise RnnscopeError(f"no JSON ({why})", hint) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

"""JSON as every program reads it: in ASCII, with NaN and infinities as the strings "nan", "inf" and "-inf"."""

import json
import math
from typing import Any


def json_text(facts: dict[str, Any]) -> str:
    """One document, to be read by people too."""
    return json.dumps(_strict(facts), indent=2, allow_nan=False) + "\n"


def json_line(facts: dict[str, Any]) -> str:
    """One document on one line."""
    return json.dumps(_strict(facts), separators=(",", ":"), allow_nan=False) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

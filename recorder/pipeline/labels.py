"""Labels as people name them: `key=value`."""

from __future__ import annotations

import re

from recorder.errors import UsageError


def label_condition(label: str) -> tuple[str, tuple[str, str]]:
    """A condition on `sessions` that says `key=value` of a label, and its parameters.

    Raises:
        UsageError: it is not of that form.
    """
    key, equals, value = label.partition("=")
    if not re.fullmatch(r"[\w.-]+", key) or not equals:
        raise UsageError(f"--label {label!r} is no label", hint="Give it as key=value.")
    return "labels ->> ? = ?", (f'$."{key}"', value)

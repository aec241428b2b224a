"""A process that ends at a chosen step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


class CrashError(BaseException):
    """The process ends here."""


def crash_at(
    patch: pytest.MonkeyPatch, number: int, steps: Iterable[tuple[object, str]], *, after: bool = False
) -> None:
    """Let the process end at a step.

    Args:
        patch: undoes it.
        number: which step it does not live to do, from 1.
        steps: functions, by where they are and their names, each of whose calls is a step.
        after: whether the end of such a call is another step, at which it is done.
    """
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == number:
            raise CrashError

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            step()
            result = real(*args, **options)
            if after:
                step()
            return result

        return call

    for place, name in steps:
        patch.setattr(place, name, counted(getattr(place, name)))

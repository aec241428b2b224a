"""Whether what runs for every message of a call was compiled when this was installed; `setup.py` says how."""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Whether it was; if not, the same sources are interpreted."""
    found = find_spec("recorder.proxy.splice")
    return found is not None and not (found.origin or "").endswith(".py")

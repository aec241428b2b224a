"""Workspaces: a directory on this machine for each object store, laid out as a local store.

    WORKSPACE/remote.json            which object store it belongs to
    WORKSPACE/remote/manifests/…     the manifests that are known to be there
    WORKSPACE/remote/tmp/…           what is being fetched
    WORKSPACE/journal, segments, …   as in any store; data files that are in the object store may be missing

So a store's path is all that any other part needs to know: `remote_of` tells whether there is more to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from recorder.errors import StoreError, UsageError
from recorder.store import layout

if TYPE_CHECKING:
    from recorder.store.remote import Mirror

CACHE_DIR_VARIABLE: Final = "RECORDER_CACHE_DIR"
CACHE_MB_VARIABLE: Final = "RECORDER_CACHE_MB"
DEFAULT_CACHE_MB: Final = 10_240
_MARKER: Final = "remote.json"
_SCHEMES: Final = frozenset({"s3", "gs", "az"})
_DIGITS: Final = 16

_mirrors: dict[Path, Mirror] = {}
_lock = threading.Lock()


class Marker(msgspec.Struct):
    """What `remote.json` holds.

    Attributes:
        url: the object store.
    """

    url: str


def is_url(text: str) -> bool:
    """Whether what a user gave as a store is no directory."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def resolve(text: str) -> Path:
    """The directory of a store: a directory itself, or the workspace of an object store, which is made if missing.

    Args:
        text: a directory, or a URL like `s3://bucket/prefix`.

    Raises:
        UsageError: the URL cannot be used, or what it takes is not installed.
        StoreError: the workspace cannot be made.
    """
    if not is_url(text):
        return Path(text)
    url = _checked(text)
    try:
        import obstore  # noqa: F401, PLC0415 - optional; said here rather than in the middle of something
    except ModuleNotFoundError:
        raise UsageError(
            f"{url} needs the package obstore", hint="pip install '.[objects]' in the recorder's folder brings it."
        ) from None
    data_dir = cache_directory() / hashlib.sha256(url.encode()).hexdigest()[:_DIGITS]
    layout.create(data_dir)
    marker = data_dir / _MARKER
    if not marker.exists():
        layout.write_file(marker, lambda file: file.write(msgspec.json.encode(Marker(url))))
    return data_dir


def cache_directory() -> Path:
    """Where workspaces are."""
    named = os.environ.get(CACHE_DIR_VARIABLE)
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base).absolute() / "recorder"


def cache_bytes() -> int:
    """How large the data files of a workspace may get that are in the object store too.

    Raises:
        UsageError: the variable holds no number.
    """
    text = os.environ.get(CACHE_MB_VARIABLE) or str(DEFAULT_CACHE_MB)
    if not text.isdecimal():
        raise UsageError(f"{CACHE_MB_VARIABLE}={text!r} is no number of MiB")
    return int(text) << 20


def remote_of(data_dir: Path) -> Mirror | None:
    """What keeps a workspace and its object store alike; None of a local store. One for each, in a process.

    Raises:
        StoreError: `remote.json` cannot be read.
        UsageError: what it takes is not installed, or the environment's settings are wrong.
    """
    with _lock:
        if data_dir in _mirrors:
            return _mirrors[data_dir]
        try:
            text = (data_dir / _MARKER).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            url = msgspec.json.decode(text, type=Marker).url
        except msgspec.MsgspecError as error:
            raise StoreError(f"{data_dir / _MARKER} is damaged: {error}", hint="Remove the file.") from error
        from recorder.store.objects import Bucket  # noqa: PLC0415 - obstore is optional
        from recorder.store.remote import Mirror  # noqa: PLC0415 - it reads manifests, whose reading asks here

        _mirrors[data_dir] = mirror = Mirror(data_dir, Bucket(url), cache_bytes())
        return mirror


def _checked(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        raise UsageError(f"{parts.scheme}:// is no kind of store", hint="Name a directory, or s3://, gs:// or az://.")
    if parts.username or parts.password:
        raise UsageError(
            "the store's URL has credentials in it", hint="Give them by the environment: see docs/objects.md."
        )
    if not parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{parts.scheme}://… needs the form {parts.scheme}://bucket/prefix")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")

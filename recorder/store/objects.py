"""A bucket: objects under a URL's prefix, by names that are relative to it. obstore is used here and nowhere else.

Retries with growing pauses, credentials by the providers' standard chains and time limits are obstore's. What timed out
or broke off in the middle of an answer it does not retry: we do, once, since all that is asked for may be asked twice.
Its errors become ours, without what follows a URL's question mark: signatures may stand there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import BinaryIO, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from obstore.store import from_url

from recorder.errors import ObjectGoneError, ObjectStoreError, UsageError

TIMEOUT_VARIABLE: Final = "RECORDER_OBJECTS_TIMEOUT"
_TIMEOUT_SECONDS: Final = 120.0
_CONNECT_SECONDS: Final = 5.0
_RETRIES: Final = 5
_RETRY_SECONDS: Final = 30.0
_TRIED: Final = re.compile(r"after \d+ retries")  # obstore's errors say so
_CHUNK: Final = 4 << 20
_ENDPOINTS: Final = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
    "GOOGLE_BASE_URL",
)  # fmt: skip
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_T = TypeVar("_T")


class Object(NamedTuple):
    """One object of a listing.

    Attributes:
        name: relative to the bucket's prefix.
        bytes: its size.
        written_at: Unix time in seconds.
    """

    name: str
    bytes: int
    written_at: float


class Bucket:
    """Objects under a URL. Safe for use from several threads.

    Args:
        url: `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`.

    Raises:
        UsageError: it cannot be used as a store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        seconds = float(os.environ.get(TIMEOUT_VARIABLE) or _TIMEOUT_SECONDS)
        try:
            self._store = from_url(
                url,
                client_options={
                    "allow_http": _allows_http(),
                    "timeout": timedelta(seconds=seconds),
                    "connect_timeout": timedelta(seconds=min(seconds, _CONNECT_SECONDS)),
                },
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
                },
            )
        except (BaseError, ValueError) as error:
            raise UsageError(f"{url} cannot be used as a store: {_words(error)}") from None

    def list(self, folder: str) -> Sequence[Object]:
        """Every object in a folder, and in those in it."""
        with self._errors("list", folder):
            pages = _twice(lambda: tuple(obstore.list(self._store, prefix=folder)))
        return [Object(one["path"], one["size"], one["last_modified"].timestamp()) for page in pages for one in page]

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            with self._errors("read", name):
                _twice(lambda: obstore.head(self._store, name))
        except ObjectGoneError:
            return False
        return True

    def get(self, name: str) -> bytes:
        """An object's content.

        Raises:
            ObjectGoneError: there is none.
        """
        with self._errors("read", name):
            return _twice(lambda: bytes(obstore.get(self._store, name).bytes()))

    def fetch(self, name: str, file: BinaryIO) -> str:
        """Write an object's content to a file, from its beginning; its SHA-256 in hex.

        Raises:
            ObjectGoneError: there is none.
        """

        def fetched() -> str:
            file.seek(0)
            file.truncate()
            return self._read(name, file.write)

        with self._errors("read", name):
            return _twice(fetched)

    def digest(self, name: str) -> str:
        """The SHA-256 of an object's content, in hex."""
        with self._errors("read", name):
            return _twice(lambda: self._read(name, len))

    def _read(self, name: str, take: Callable[[bytes], object]) -> str:
        digest = hashlib.sha256()
        for chunk in obstore.get(self._store, name).stream(_CHUNK):
            digest.update(chunk)
            take(bytes(chunk))
        return digest.hexdigest()

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there yet; False, and nothing is changed, if there is one of this name.

        False is also the answer if we wrote it ourselves, and the first answer was lost on its way.
        """
        try:
            with self._errors("write", name):
                _twice(lambda: obstore.put(self._store, name, content, mode="create"))
        except FileExistsError:
            return False
        return True

    def overwrite(self, name: str, content: bytes) -> None:
        """Write an object, whatever is there."""
        with self._errors("write", name):
            _twice(lambda: obstore.put(self._store, name, content))

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are as good as removed."""
        gone = sorted(names)
        if gone:
            with self._errors("delete", gone[0]):
                try:
                    _twice(lambda: obstore.delete(self._store, gone))
                except FileNotFoundError:  # S3 takes that for success, Azure and Google do not
                    for name in gone:
                        with suppress(FileNotFoundError):
                            _twice(partial(obstore.delete, self._store, name))

    @contextmanager
    def _errors(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError as error:
            raise FileExistsError(name) from error
        except FileNotFoundError as error:
            if doing == "read":
                raise ObjectGoneError(name) from None
            raise ObjectStoreError(f"{self.url}: cannot {doing} {name}: {_words(error)}") from None
        except (BaseError, OSError) as error:
            raise ObjectStoreError(
                f"{self.url}: cannot {doing} {name}: {_words(error)}",
                hint="Credentials and endpoint come from the environment: see docs/objects.md.",
            ) from None


def _twice(ask: Callable[[], _T]) -> _T:
    """What a request gives, asked again if obstore did not try more than once."""
    try:
        return ask()
    except GenericError as error:
        if _TRIED.search(str(error)):
            raise
        return ask()


def _allows_http() -> bool:
    """Whether to allow plain HTTP: for endpoints on this machine, or where the provider's own switch says so."""
    hosts: Sequence[str | None] = [urlsplit(os.environ.get(name, "")).hostname for name in _ENDPOINTS]
    return any(host in _LOOPBACK for host in hosts) or os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"}


def _words(error: Exception) -> str:
    """An error of obstore in one line, without what may be secret."""
    text = str(error).split("\n\nDebug source", maxsplit=1)[0]
    return re.sub(r"\?\S+", "", " ".join(text.split()))[:500]

"""Keys that data files are encrypted with: given by a file or by a command, never on a command line.

The environment says where they come from, so that the processes which a recorder starts have the same:

    RECORDER_KEY_FILE        a file with keys of 32 bytes, in hex or base64, one a line; or one as it is
    RECORDER_KEY_COMMAND     a command that prints the same, run without a shell

What is written is encrypted with the first key; the others are for reading what earlier ones have encrypted. A key
encrypts nothing itself: each file has one of its own, derived from the file's place in the store. So however much is
recorded, few nonces are drawn under one key, and a file that was put in another's place cannot be read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from recorder.errors import EncryptionKeyError

KEY_FILE: Final = "RECORDER_KEY_FILE"
KEY_COMMAND: Final = "RECORDER_KEY_COMMAND"
MARKER: Final = "encrypted"
"""The file in a store that says: nothing is written here without a key."""

_MARKED: Final = (
    "Data files in this store are encrypted. Without a key, nothing is written here while this file is there.\n"
)
_BYTES: Final = 32
_MOST_BYTES: Final = 1 << 16
_COMMAND_SECONDS: Final = 30.0
_ID_DIGITS: Final = 8
_PURPOSE: Final = b"recorder data file\0"
_MAKE_ONE: Final = "Make one with: openssl rand -hex 32"
_NAME_IT: Final = f"Name it with --key-file ({KEY_FILE}) or --key-command ({KEY_COMMAND}): docs/encryption.md."

_in_plain: ContextVar[bool] = ContextVar("in_plain", default=False)


class Keyring(NamedTuple):
    """The keys of a process.

    Attributes:
        current: id of the key that is written with; "" without any.
        held: every key by its id.
    """

    current: str
    held: Mapping[str, bytes]

    def __repr__(self) -> str:
        """Without the keys: this may end up in a log."""
        return f"Keyring(current={self.current!r}, held={sorted(self.held)})"


def keyring() -> Keyring:
    """The keys that the environment names; loaded once.

    Raises:
        EncryptionKeyError: they cannot be had, or are none.
    """
    return _load(os.environ.get(KEY_FILE, ""), os.environ.get(KEY_COMMAND, ""))


def use(key_file: str | None, key_command: str | None) -> None:
    """Have this process, and those that it starts, take keys from there; None leaves the environment as it is.

    Raises:
        EncryptionKeyError: they cannot be had, or are none.
    """
    named = {KEY_FILE: key_file and str(Path(key_file).absolute()), KEY_COMMAND: key_command}
    os.environ.update({name: value for name, value in named.items() if value})
    keyring()


def for_writing(data_dir: Path) -> str:
    """The id of the key that files of a store are to be written with; "" for none. From the first one on, it is a must.

    Raises:
        EncryptionKeyError: there is none, and the store has encrypted files.
    """
    if _in_plain.get():
        return ""
    current = keyring().current
    if current:
        mark(data_dir)
    elif (data_dir / MARKER).exists():
        raise EncryptionKeyError(f"{data_dir} is an encrypted store, and no key was given to write with", hint=_NAME_IT)
    return current


def mark(data_dir: Path) -> None:
    """Have nothing written to a store without a key from now on."""
    if not (data_dir / MARKER).exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), (data_dir / MARKER).open("x", encoding="utf-8") as file:
            file.write(_MARKED)


@contextlib.contextmanager
def in_plain() -> Iterator[None]:
    """What is written meanwhile is not encrypted: it is to be handed on."""
    token = _in_plain.set(True)
    try:
        yield
    finally:
        _in_plain.reset(token)


def derived(key_id: str, name: str) -> bytes:
    """The key of one file: HMAC-SHA-256 of its name under the key of that id.

    Args:
        key_id: which.
        name: the file's path, relative to the store.

    Raises:
        EncryptionKeyError: it is not held.
    """
    held = keyring().held
    if key_id not in held:
        raise EncryptionKeyError(
            f"{name} is encrypted with the key {key_id}, which is not among those given", hint=_NAME_IT
        )
    return hmac.digest(held[key_id], _PURPOSE + name.encode(), "sha256")


def id_of(key: bytes) -> str:
    """What a key is called in manifests and errors: the first digits of its SHA-256, in hex."""
    return hashlib.sha256(key).hexdigest()[:_ID_DIGITS]


@lru_cache(maxsize=8)
def _load(key_file: str, key_command: str) -> Keyring:
    if key_file and key_command:
        raise EncryptionKeyError(
            "the key is to come from a file and from a command",
            hint=f"Name one of them; {KEY_FILE} and {KEY_COMMAND} count too.",
        )
    found = _from_file(key_file) if key_file else _from_command(key_command) if key_command else []
    return Keyring(id_of(found[0]) if found else "", MappingProxyType({id_of(key): key for key in found}))


def _from_file(name: str) -> list[bytes]:
    try:
        with Path(name).open("rb") as file:
            return _parsed(file.read(_MOST_BYTES), f"the key file {name}")
    except OSError as error:
        raise EncryptionKeyError(f"cannot read the key file {name}: {error.strerror}", hint=_MAKE_ONE) from error


def _from_command(command: str) -> list[bytes]:
    try:
        words = shlex.split(command)
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        why = "it took too long" if isinstance(error, subprocess.TimeoutExpired) else str(error)
        raise EncryptionKeyError(f"the key command cannot be run: {why}", hint=_NAME_IT) from None
    if done.returncode:
        raise EncryptionKeyError(
            f"the key command failed: it ended with {done.returncode}", hint="What it said stands above."
        )
    return _parsed(done.stdout, "what the key command printed")


def _parsed(content: bytes, source: str) -> list[bytes]:
    """The keys in a file, or in what a command printed."""
    if len(content) == _BYTES and not (content.isascii() and content.strip().decode().isprintable()):
        return [content]
    lines = [line.strip() for line in content.splitlines()]
    found = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith(b"#")]
    if not found:
        raise EncryptionKeyError(f"{source}: there is no key in it", hint=_MAKE_ONE)
    return [_key(line, f"{source}, line {number}") for number, line in found]


def _key(text: bytes, where: str) -> bytes:
    for decode in (binascii.unhexlify, lambda one: base64.b64decode(one, validate=True)):
        with contextlib.suppress(ValueError):
            key = decode(text)
            if len(key) == _BYTES:
                return key
    raise EncryptionKeyError(f"{where}: no key of {_BYTES} bytes in hex or base64", hint=_MAKE_ONE)

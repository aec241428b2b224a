"""Client tokens: what clients show to this proxy instead of a key of the upstream's.

A token is 256 random bits, so one SHA-256 is hash enough: nobody can try that many. A slow hash (scrypt) protects
passwords, which these are not, and would hold up every running call of the worker for as long as it takes, at each
handshake, also an attacker's.

The file has one line for each token: `NAME sha256:HEX DATE`, as `recorder tokens` writes it. `#` begins a comment.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from recorder.errors import UsageError
from recorder.store.layout import sync_directory, write_file

PREFIX: Final = "rk_"
"""What tokens begin with: redaction knows it as a key's, wherever one might turn up."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LINE: Final = re.compile(r"(\S+)\s+sha256:([0-9a-f]{64})(?:\s+(\d{4}-\d{2}-\d{2}))?")
_FORM: Final = "Each line is NAME sha256:HEX [DATE]; `recorder tokens add NAME --file FILE` writes them."
_HEADING: Final = "# Client tokens of `recorder proxy --client-tokens`: hashes only, so none can be read from here.\n"


class Token(msgspec.Struct, frozen=True):
    """One line of the file.

    Attributes:
        name: whose it is; becomes the label `client` of their sessions.
        digest: its SHA-256.
        created: the day, as written, or "".
    """

    name: str
    digest: bytes
    created: str


class ClientTokens:
    """The tokens that are valid now."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def name_of(self, candidates: Iterable[str]) -> str | None:
        """Whose token is among `candidates`; None if none is valid.

        Takes the same time for each candidate, valid or not.
        """
        name = None
        for candidate in candidates:
            digest = _digest(candidate)
            for token in self._tokens:
                if hmac.compare_digest(digest, token.digest):
                    name = name or token.name
        return name


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file, in its order.

    Raises:
        UsageError: it cannot be read, or is not what it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"client tokens {path}: {problem}", hint=_FORM) from None
    tokens: dict[str, Token] = {}
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        found = _LINE.fullmatch(content)
        if found is None or not _NAME.fullmatch(found[1]):
            raise UsageError(f"client tokens {path}:{number}: this is no token's line", hint=_FORM)
        if found[1] in tokens:
            raise UsageError(
                f"client tokens {path}:{number}: {found[1]} is there twice", hint="Give each its own name."
            )
        tokens[found[1]] = Token(found[1], bytes.fromhex(found[2]), found[3] or "")
    return list(tokens.values())


def add_token(path: Path, name: str) -> str:
    """Make a token and add its hash to a file, which is made if missing, for its owner alone.

    Returns:
        The token. It can not be had again.

    Raises:
        UsageError: the name makes no sense or is taken, or the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a token's name", hint="Letters, digits and ._@- (first a letter or digit), at most 64."
        )
    if path.exists() and name in {token.name for token in read_tokens(path)}:
        raise UsageError(
            f"client tokens {path}: {name} has one already", hint=f"`recorder tokens remove {name}` takes it away."
        )
    token = PREFIX + secrets.token_urlsafe(32)
    text = path.read_text(encoding="utf-8") if path.exists() else _HEADING
    text += "" if text.endswith("\n") or not text else "\n"
    _write(path, f"{text}{name} sha256:{_digest(token).hex()} {dt.datetime.now(dt.UTC).date()}\n")
    return token


def remove_token(path: Path, name: str) -> None:
    """Take a token out of a file; other lines stay as they are.

    Raises:
        UsageError: there is none of that name, or the file cannot be read or written.
    """
    if name not in {token.name for token in read_tokens(path)}:
        raise UsageError(f"client tokens {path}: there is none for {name!r}", hint="`recorder tokens list` shows them.")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    _write(path, "".join(line for line in lines if line.split()[:1] != [name]))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _write(path: Path, text: str) -> None:
    try:
        write_file(path, lambda file: file.write(text.encode()))
        sync_directory(path.absolute().parent)
    except OSError as error:
        raise UsageError(f"client tokens {path}: {error.strerror}") from None

"""The routes' file: TOML in, routes out, and every mistake named with its place."""

from __future__ import annotations

import difflib
import os
import re
import ssl
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from recorder.errors import UsageError
from recorder.protocol.policy import ContentPolicy
from recorder.proxy.consent import Mode, RecordingPolicy
from recorder.proxy.credentials import NONE, PASS_THROUGH, Credential
from recorder.proxy.routes import CLIENT_LABEL, Route, label_of
from recorder.proxy.routetable import ALLOWED, RouteTable
from recorder.proxy.tls import upstream_context
from recorder.proxy.upstream import HttpProxy, Upstream, proxy_from_environment

_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PROTECTED: Final = frozenset(
    {"host", "connection", "upgrade", "keep-alive", "content-length", "transfer-encoding", "sec-websocket-key"}
    | {"sec-websocket-version", "sec-websocket-protocol", "sec-websocket-accept"}
)
_SETTABLE: Final = frozenset({"host"})
_REMOVABLE: Final = frozenset({"sec-websocket-extensions"})


@dataclass(frozen=True, slots=True)
class RouteDefaults:
    """For routes that do not say: the command line's values."""

    ca: Path | None = None
    connect_timeout_seconds: float = 10.0
    handshake_timeout_seconds: float = 30.0


def load_config(path: Path, defaults: RouteDefaults | None = None) -> list[Route]:
    """Read a routes' file, and the certificates and credentials that it names.

    Args:
        path: the TOML file. Files named in it are relative to its directory.
        defaults: for what routes do not say.

    Returns:
        At least one route, in the file's order.

    Raises:
        UsageError: it cannot be used; names the file, the route, the key and what is allowed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint="The file is TOML; see docs/configuration.md.") from None
    if unknown := [key for key in document if key != "route"]:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}", hint="Allowed at the top: [[route]].")
    tables = document.get("route")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: there is no route in it", hint="Each begins with a line [[route]].")
    contexts: dict[Path | None, ssl.SSLContext] = {}
    defaults = defaults or RouteDefaults()
    routes = [_Reader(path, number, table, defaults, contexts).route() for number, table in enumerate(tables, 1)]
    _require_unambiguous(path, routes)
    return routes


def _require_unambiguous(path: Path, routes: list[Route]) -> None:
    names: set[str] = set()
    taken: dict[tuple[str | None, str], str] = {}
    for route in routes:
        if route.name in names:
            raise UsageError(f"{path}: route {route.name}: name is there twice", hint="Give each route its own.")
        names.add(route.name)
        place = (route.host, route.path_prefix)
        if place in taken:
            raise UsageError(
                f"{path}: route {route.name}: takes the same requests as route {taken[place]}",
                hint="Each needs its own host or path_prefix.",
            )
        taken[place] = route.name


class _Reader:
    """One `[[route]]` on its way to a `Route`."""

    def __init__(
        self,
        path: Path,
        number: int,
        table: dict[str, Any],
        defaults: RouteDefaults,
        contexts: dict[Path | None, ssl.SSLContext],
    ) -> None:
        self._path = path
        name = table.get("name")
        self._where = f"{path}: route {name if isinstance(name, str) and name.isprintable() else number}"
        self._defaults = defaults
        self._contexts = contexts
        self._table = self._checked(table)

    def _fail(self, key: str, problem: str) -> UsageError:
        return UsageError(f"{self._where}: {key}: {problem}", hint=f"Allowed: {ALLOWED[key]}.")

    def _checked(self, table: dict[str, Any]) -> RouteTable:
        fields = {field.name: field for field in msgspec.structs.fields(RouteTable)}
        for key in table:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, 1)
                raise UsageError(
                    f"{self._where}: unknown key {key!r}" + (f", is {near[0]} meant?" if near else ""),
                    hint=f"Allowed: {', '.join(fields)}.",
                )
        for key, field in fields.items():
            if key not in table:
                if field.required:
                    raise self._fail(key, "is missing")
                continue
            try:
                msgspec.convert(table[key], field.type)
            except msgspec.ValidationError as error:
                raise self._fail(key, str(error).partition(" - at")[0]) from None
        return msgspec.convert(table, RouteTable)

    def route(self) -> Route:
        table, defaults = self._table, self._defaults
        upstream = Upstream.parse(table.upstream, where=f"{self._where}: upstream")
        prefix = table.path_prefix.rstrip("/")
        if table.strip_prefix and not prefix:
            raise self._fail("strip_prefix", "there is no path_prefix to strip")
        return Route(
            name=table.name,
            upstream=upstream,
            tls=self._context() if upstream.tls else None,
            host=table.host.lower().rstrip(".") if table.host else None,
            path_prefix=prefix,
            strip_prefix=table.strip_prefix,
            proxy=self._proxy(upstream),
            connect_timeout_seconds=table.connect_timeout_seconds or defaults.connect_timeout_seconds,
            handshake_timeout_seconds=table.handshake_timeout_seconds or defaults.handshake_timeout_seconds,
            set_headers=self._set_headers(),
            remove_headers=frozenset(self._allowed("remove_headers", table.remove_headers, _PROTECTED)),
            credential=self._credential(),
            recording=self._recording(),
            sideband=table.sideband,
            labels=self._labels(),
            label_headers=tuple(self._allowed("label_headers", table.label_headers, _PROTECTED | _REMOVABLE)),
        )

    def _recording(self) -> RecordingPolicy:
        table = self._table
        if table.consent_may_loosen and not table.consent_header:
            raise self._fail("consent_may_loosen", "there is no consent_header")
        return RecordingPolicy(
            mode=Mode(table.recording),
            sample=table.sample,
            consent_header=table.consent_header.lower() if table.consent_header else None,
            consent_may_loosen=table.consent_may_loosen,
            content=ContentPolicy(table.drop_audio, table.hash_text),
        )

    def _context(self) -> ssl.SSLContext:
        """One for each CA file: a context costs hundreds of kilobytes."""
        ca = self._path.parent / self._table.ca if self._table.ca else self._defaults.ca
        if ca not in self._contexts:
            where = f"{self._where}: ca" if self._table.ca else "--upstream-ca"
            self._contexts[ca] = upstream_context(ca, where=where)
        return self._contexts[ca]

    def _proxy(self, upstream: Upstream) -> HttpProxy | None:
        if self._table.proxy is None:
            return proxy_from_environment(upstream)
        if self._table.proxy == "none":
            return None
        return HttpProxy.parse(self._table.proxy, where=f"{self._where}: proxy")

    def _allowed(self, key: str, names: list[str], forbidden: frozenset[str]) -> list[str]:
        lowered = [name.lower() for name in names]
        for name in lowered:
            if name in forbidden:
                raise self._fail(key, f"{name} belongs to the handshake and cannot be changed")
        return lowered

    def _set_headers(self) -> tuple[tuple[str, str], ...]:
        headers = self._table.set_headers
        self._allowed("set_headers", list(headers), (_PROTECTED | _REMOVABLE) - _SETTABLE)
        for name, value in headers.items():
            if not _VALUE.fullmatch(value):
                raise self._fail("set_headers", f"the value of {name} has characters that no header may have")
        return tuple(headers.items())

    def _labels(self) -> dict[str, str]:
        labels = self._table.labels
        if CLIENT_LABEL in labels or CLIENT_LABEL in map(label_of, self._table.label_headers):
            key = "labels" if CLIENT_LABEL in labels else "label_headers"
            raise self._fail(key, f"the label {CLIENT_LABEL} is the name of the client's token")
        return labels

    def _credential(self) -> Credential:
        table = self._table.credential
        if isinstance(table, str):
            return PASS_THROUGH if table == "pass" else NONE
        self._allowed("credential", [table.header], _PROTECTED | _REMOVABLE)
        if (table.value_from_env is None) == (table.value_from_file is None):
            raise self._fail("credential", "needs one of value_from_env and value_from_file")
        if table.value_from_env is not None:
            source = f"${table.value_from_env}"
            value = os.environ.get(table.value_from_env, "")
        else:
            source = str(table.value_from_file)
            value = self._read(self._path.parent / source)
        if not value.strip():
            raise self._fail("credential", f"{source} is empty or not set")
        value = table.prefix + value.strip()
        if not _VALUE.fullmatch(value):
            raise self._fail("credential", f"{source} has characters that no header may have")
        return Credential(replaces=True, header=table.header, value=value, source=source)

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise self._fail("credential", f"{path}: {problem}") from None

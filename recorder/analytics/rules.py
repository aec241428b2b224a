"""Rules that look for known mistakes: one YAML file each, named after the rule: a query, and what to say of its rows.

    severity: warning                 error, warning or info
    title: …                          what is wrong, in a few words
    advice: …                         what to do about it
    thresholds: {most_seconds: 2}     numbers that the query names as $most_seconds
    query: SELECT session_id, [position] AS positions, '…' AS message FROM responses WHERE …

A query reads what `recorder query` reads. `positions` are the events that it speaks of. A file in a user's folder adds
a rule, or takes the place of the built-in one of that name; `enabled: false` turns one off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

from recorder.errors import RecorderError

Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")
"""The worst first."""

_BUILT_IN: Final = Path(__file__).parent / "findings"
_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLACEHOLDER: Final = re.compile(r"\$([a-z][a-z0-9_]*)\b")


class RuleError(RecorderError):
    """A rule's file is not what it should be.

    Attributes:
        path: the file.
        problem: what is wrong with it.
    """

    exit_code = 2
    http_status = 500

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}", hint="See docs/findings.md for what a rule's file holds.")
        self.path = path
        self.problem = problem


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    severity: Severity | None = None
    title: str = ""
    advice: str = ""
    query: str = ""
    thresholds: dict[str, int | float] = {}
    enabled: bool = True


class Rule(msgspec.Struct, frozen=True):
    """One rule.

    Attributes:
        name: unique.
        severity: of its findings.
        title: what is wrong, in a few words.
        advice: what to do about it.
        query: SQL that gives `session_id`, `positions` (list of BIGINT) and `message`, thresholds filled in.
        thresholds: what it was filled with.
        path: its file.
    """

    name: str
    severity: Severity
    title: str
    advice: str
    query: str
    thresholds: dict[str, int | float]
    path: str

    @property
    def findings(self) -> str:
        """SQL that gives its findings, with all that is to be said of them, and their severity's rank."""
        said = {"rule": self.name, "severity": self.severity, "title": self.title, "advice": self.advice}
        literals = {name: f"'{text.replace(chr(39), chr(39) * 2)}'" for name, text in said.items()}
        texts = ", ".join(f"{literal} AS {name}" for name, literal in literals.items())
        columns = (  # what a query leaves NULL is left out
            "coalesce(CAST(session_id AS VARCHAR), error('a finding names no session')) AS session_id, "
            "coalesce(list_filter(CAST(positions AS BIGINT[]), lambda one: one IS NOT NULL), []) AS positions, "
            f"coalesce(CAST(message AS VARCHAR), {literals['title']}) AS message, "
            f"{texts}, {SEVERITIES.index(self.severity)} AS rank"
        )
        # The query is of a file of the owner's, and is looked at before it runs.
        return f"SELECT {columns} FROM ({self.query}\n) AS found"  # noqa: S608


def load_rules(folder: Path | None = None, thresholds: Mapping[str, float] | None = None) -> tuple[Rule, ...]:
    """The built-in rules and those of a folder, by name.

    Args:
        folder: of the user's; its files win over built-in ones of the same name.
        thresholds: `rule.threshold` → the number to use instead of the file's.

    Raises:
        RuleError: a file is not what it should be, or a threshold is named that no rule has.
    """
    files = {path.stem: path for path in _files(_BUILT_IN)}
    if folder is not None:
        if not folder.is_dir():
            raise RuleError(str(folder), "no such folder")
        files |= {path.stem: path for path in _files(folder)}
    wanted = dict(thresholds or {})
    rules = [rule for name in sorted(files) if (rule := _load(files[name], wanted)) is not None]
    if wanted:
        raise RuleError(next(iter(wanted)), "there is no such rule with such a threshold")
    return tuple(rules)


@cache
def built_in_rules() -> tuple[Rule, ...]:
    """The rules that come with the recorder."""
    return load_rules()


def reference() -> str:
    """The built-in rules as the table of docs/findings.md."""
    lines = ["| rule | severity | what is wrong | what to do | limits |", "|---|---|---|---|---|"]
    for rule in sorted(built_in_rules(), key=lambda rule: (SEVERITIES.index(rule.severity), rule.name)):
        limits = ", ".join(f"`{name}` {value}" for name, value in rule.thresholds.items()) or "–"
        lines.append(f"| `{rule.name}` | {rule.severity} | {rule.title} | {rule.advice} | {limits} |")
    return "\n".join(lines) + "\n"


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith("."))


def _load(path: Path, wanted: dict[str, float]) -> Rule | None:
    name = path.stem
    if not _NAME.fullmatch(name):
        raise RuleError(str(path), "a rule's name is made of small letters, digits and underscores")
    try:
        file = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, _File)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise RuleError(str(path), " ".join(str(error).split())) from error
    if not file.enabled:
        return None
    if file.severity is None or not all((file.title, file.advice, file.query)):
        raise RuleError(str(path), "severity, title, advice and query are needed")
    own = {key: wanted.pop(f"{name}.{key}", value) for key, value in file.thresholds.items()}
    unknown = set(_PLACEHOLDER.findall(_without_texts(file.query))) - own.keys()
    if unknown:
        raise RuleError(str(path), f"the query names ${min(unknown)}, which is not among its thresholds")
    query = _PLACEHOLDER.sub(lambda found: _literal(own, found), file.query.strip().rstrip(";"))
    advice, title = (" ".join(text.split()) for text in (file.advice, file.title))
    return Rule(name, file.severity, title, advice, query, own, str(path))


def _without_texts(query: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", query)  # JSON paths are written '$.key'


def _literal(own: Mapping[str, float], found: re.Match[str]) -> str:
    return repr(own[found[1]]) if found[1] in own else found[0]

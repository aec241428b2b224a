"""Compaction: the many small files of a day become few large ones, while the sealer and readers go on.

A day's manifests are put together as a log-structured merge tree does it: those whose sizes are alike, so that what is
large already is not written again for every small one that comes, and each row is written some few times in all. Of
those put together, files that are large enough are kept as they are; audio above all, which is most of a store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from recorder import __version__
from recorder.pipeline.replace import commit, listed, new_name, sweep, units_of
from recorder.store import layout
from recorder.store.keys import keyring
from recorder.store.manifests import GRACE_SECONDS, Manifest
from recorder.store.merge import TARGET_BYTES, Unit, merge
from recorder.store.schema import FORMAT_VERSION
from recorder.store.segments import SegmentFile, column_digests
from recorder.store.workspace import remote_of

Progress = Callable[[int, int], None]
"""Called with how many files are merged, and of how many."""

_T = TypeVar("_T")
_RATIO: Final = 2
"""A manifest or file this many times as large as all smaller ones together is left alone."""


class CompactedDay(msgspec.Struct):
    """What became, or would become, of a date.

    Attributes:
        date: YYYY-MM-DD.
        sessions: how many sessions were put together.
        files_before: how many data files they had.
        files_after: how many they have now; None of a dry run.
        bytes_rewritten: how much was read for it.
    """

    date: str
    sessions: int
    files_before: int
    files_after: int | None
    bytes_rewritten: int


class CompactReport(msgspec.Struct):
    """What `compact` did.

    Attributes:
        days: those that were compacted.
        removed_files: how many files that were replaced earlier are gone now.
        removed_bytes: their size.
        unnamed: data files that no manifest names, and that may be the only ones that hold their rows.
    """

    days: list[CompactedDay] = []
    removed_files: int = 0
    removed_bytes: int = 0
    unnamed: list[str] = []


def compact(
    data_dir: Path,
    progress: Progress | None = None,
    *,
    dates: Collection[str] | None = None,
    until: str | None = None,
    target_bytes: int = TARGET_BYTES,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
    wait: bool = True,
    at_least: int = 0,
) -> CompactReport:
    """Merge small files, date by date, and remove files that were replaced long enough ago.

    Safe to be killed at any point; to be called again at any time, and does nothing then if there is nothing to do.

    Args:
        data_dir: the store.
        progress: told as it goes; what it raises ends the compaction, which loses nothing.
        dates: only these; None for all.
        until: only dates before this one.
        target_bytes: about how large files are to get.
        grace_seconds: how long replaced files stay for those who read them.
        dry_run: only tell what would be done.
        wait: for others who replace manifests; without, their presence is an error.
        at_least: only dates of which so many files are to be merged.

    Raises:
        BlockingIOError: others are at it, and not to `wait`.
        StoreError: a file is missing or damaged; its date stays as it is.
        OSError: the disk is full, or fails.
    """
    layout.require(data_dir)
    report = CompactReport()
    with layout.rewriting(data_dir, wait=wait):
        if not dry_run:
            report.removed_files, report.removed_bytes, report.unnamed = sweep(data_dir, grace_seconds=grace_seconds)
        plans = [
            plan
            for plan in plans_of(listed(data_dir).counting, target_bytes, dates)
            if (until is None or plan.date < until) and plan.files >= at_least
        ]
        done, total = 0, sum(plan.files for plan in plans)
        for plan in plans:
            files = None if dry_run else plan.carry_out(data_dir)
            report.days.append(
                CompactedDay(plan.date, len(plan.sessions), plan.files + len(plan.kept), files, plan.bytes)
            )
            done += plan.files
            if progress:
                progress(done, total)
        if plans and not dry_run and grace_seconds <= 0:
            swept = sweep(data_dir, grace_seconds=grace_seconds)
            report.removed_files += swept.files
            report.removed_bytes += swept.bytes
    return report


class Plan:
    """What is to be done for one date.

    Args:
        date: which.
        sources: the manifests that are put together.
        target_bytes: about how large files are to get.
    """

    def __init__(self, date: str, sources: Sequence[Manifest], target_bytes: int) -> None:
        self.date = date
        self.sources = sorted(sources, key=lambda manifest: manifest.name)
        self.sessions = {key: facts for manifest in self.sources for key, facts in manifest.sessions.items()}
        self.kept: list[SegmentFile] = []
        self.merged: list[tuple[str, list[Unit]]] = []
        self._target_bytes = target_bytes
        for data_set, units in self._units().items():
            for alike in _same_columns(data_set, units):
                chosen = _chosen(alike, target_bytes)
                self.kept += [file for unit in alike if unit not in chosen for file in unit.files]
                if chosen:
                    self.merged.append((data_set, chosen))

    @property
    def files(self) -> int:
        """How many are to be merged."""
        return sum(len(unit.files) for _, units in self.merged for unit in units)

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(unit.bytes for _, units in self.merged for unit in units)

    def _units(self) -> dict[str, list[Unit]]:
        found: dict[str, list[Unit]] = {}
        for manifest in self.sources:
            for data_set, units in units_of(manifest).items():
                found.setdefault(data_set, []).extend(units)
        return dict(sorted(found.items()))

    def carry_out(self, data_dir: Path) -> int:
        """Write the files, then the manifest; how many files that makes."""
        remote = remote_of(data_dir)
        if remote is not None:  # all at once, rather than one by one as they are read
            remote.ensure(file for _, units in self.merged for unit in units for file in unit.files)
        held = [file.sha256 for manifest in self.sources for file in manifest.files]
        name = new_name(self.date, sorted(self.sessions.items()), held, self._target_bytes)
        files = list(self.kept)
        numbers: dict[str, int] = {}
        for data_set, units in self.merged:
            new = merge(
                data_dir,
                self.date,
                name,
                data_set,
                units,
                target_bytes=self._target_bytes,
                first=numbers.get(data_set, 0),
            )
            numbers[data_set] = numbers.get(data_set, 0) + len(new)
            files += new
        replaces = tuple(manifest.name for manifest in self.sources)
        manifest = Manifest(FORMAT_VERSION, name, self.date, __version__, self.sessions, tuple(files), replaces)
        commit(data_dir, [manifest])
        return len(files)


def plans_of(counting: Iterable[Manifest], target_bytes: int, dates: Collection[str] | None = None) -> list[Plan]:
    """What is worth being done, date by date.

    Args:
        counting: the store's manifests of closed sessions.
        target_bytes: about how large files are to get.
        dates: only these; None for all.
    """
    by_date: dict[str, list[Manifest]] = {}
    for manifest in counting:
        if dates is None or manifest.date in dates:
            by_date.setdefault(manifest.date, []).append(manifest)
    plans = []
    for date, found in sorted(by_date.items()):
        together = _alike(found, _rows_of)
        anyway = (each for each in found if _is_scattered(each) or any(map(_is_due, each.files)))
        together += [each for each in anyway if each not in together]
        if together:
            plans.append(Plan(date, together, target_bytes))
    return plans


def _rows_of(manifest: Manifest) -> int:
    """What putting it together with others may cost. The bytes of small files tell little: most are footers."""
    return sum(file.rows for file in manifest.files)


def _is_scattered(manifest: Manifest) -> bool:
    return any(len(unit.files) > 1 for units in units_of(manifest).values() for unit in units)


def _is_due(file: SegmentFile) -> bool:
    """Whether a file is to be encrypted anew, with the key that is written with now; without one, none is."""
    return keyring().current not in {"", file.key_id}


def _alike(things: Iterable[_T], size: Callable[[_T], int]) -> list[_T]:
    """The smaller ones, until one is much larger than all before it together; none if that is but one."""
    ordered = sorted(things, key=size)
    while len(ordered) > 1 and size(ordered[-1]) > _RATIO * sum(map(size, ordered[:-1])):
        ordered.pop()
    if len(ordered) > 1:
        return ordered
    return []


def _chosen(units: Sequence[Unit], target_bytes: int) -> list[Unit]:
    """The units to be written anew: small ones of like size, those in several files, those with an earlier key."""
    small = [unit for unit in units if len(unit.files) > 1 or unit.bytes < target_bytes // 2]
    chosen = _alike(small, lambda unit: sum(file.rows for file in unit.files))
    several = [unit for unit in small if len(unit.files) > 1]
    due = [unit for unit in units if any(map(_is_due, unit.files))]
    return list(dict.fromkeys([*chosen, *several, *due]))


def _same_columns(data_set: str, units: Sequence[Unit]) -> list[list[Unit]]:
    """Units that can be in one file: those of models as another version of the recorder wrote them cannot."""
    if data_set in column_digests():
        return [list(units)]
    groups: dict[str, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.files[0].columns, []).append(unit)
    return list(groups.values())

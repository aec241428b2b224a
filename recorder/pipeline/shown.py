"""What an engine shows of a store: which of its files, and whose rows it keeps in memory."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from recorder.analytics.engine import KEPT_ROWS, Engine, Files, KeepingEngine
from recorder.analytics.prices import Price
from recorder.analytics.registry import stored_models
from recorder.errors import QueryError, UnreadableFileError
from recorder.store import segments
from recorder.store.datasets import EncryptedFiles
from recorder.store.manifests import Manifest
from recorder.store.segments import SegmentFile

log = logging.getLogger(__name__)

KEPT_FILES: Final = 20_000
"""Of more files than that, rows are not read into memory to begin with: it takes one or two milliseconds each."""


class _Kept(NamedTuple):
    """What the rows of a manifest's sessions are made of: the same gives the same rows."""

    files: tuple[SegmentFile, ...]
    prices_of: str
    """The day whose prices hold for sessions without times; "" without any."""


class Shown:
    """Hands a store's files and running sessions to an engine. Not safe for use from several threads.

    Args:
        data_dir: the store.
        prices: what costs are reckoned with.
        keep: whether the models' rows are kept in memory, unless they are too many: reading them all takes a moment,
            and each query is answered sooner.

    Attributes:
        engine: which; another one from the moment on at which the rows are too many.
    """

    def __init__(self, data_dir: Path, *, prices: Sequence[Price], keep: bool) -> None:
        self._data_dir = data_dir
        self._prices = prices
        self._encrypted = EncryptedFiles(data_dir)
        self._kept: dict[str, tuple[_Kept, Manifest]] = {}
        kind = KeepingEngine if keep else Engine
        self.engine: Engine = kind([data_dir / "segments"], prices=prices)

    @property
    def is_of_yesterday(self) -> bool:
        """Whether rows that are kept hold costs at the prices of a day that is over."""
        return any(kept.prices_of not in {"", _today()} for kept, _ in self._kept.values())

    def update(self, manifests: Sequence[Manifest] | None, live: Mapping[str, Any] | None) -> bool:
        """Show these, all at once.

        Args:
            manifests: those whose files are shown; None if they are as they were.
            live: rows of running sessions by data set; None if they are as they were.

        Returns:
            Whether that was possible; if not, there is a new engine, which has yet to be shown everything.

        Raises:
            UnreadableFileError: a file is gone since it was listed, or damaged; nothing changed.
            StoreError, EncryptionKeyError: as for the data sets of encrypted files.
        """
        if not isinstance(self.engine, KeepingEngine):
            files = None if manifests is None else self._files(manifests, self._encrypted)
            self.engine.update(live=live, **(files._asdict() if files else {}))
            return True
        if manifests is None:
            self.engine.keep(gone=(), come=Files({}, set(), {}), others=None, live=live)
            return True
        rows = [file.rows for manifest in manifests for file in _of_models(manifest)]
        if sum(rows) > KEPT_ROWS:
            self.keep_nothing("they are too many")
            return False
        if not self._kept and len(rows) > KEPT_FILES:
            self.keep_nothing(f"they are in {len(rows):,} files, of which `recorder compact` makes few")
            return False
        try:
            self._keep(self.engine, manifests, live)
        except UnreadableFileError:
            raise
        except QueryError as error:
            self.keep_nothing(error.message)
            return False
        return True

    def _keep(self, engine: KeepingEngine, manifests: Sequence[Manifest], live: Mapping[str, Any] | None) -> None:
        kept = {each.name: (_kept(each), each) for each in manifests if each.part is None}
        new = [each for key, each in kept.values() if self._kept.get(each.name, (None,))[0] != key]
        old = [each for key, each in self._kept.values() if kept.get(each.name, (None,))[0] != key]
        engine.keep(
            gone={session_id for each in old for session_id in each.sessions},
            come=_chosen(self._files(new, EncryptedFiles(self._data_dir)), of_models=True),
            others=_chosen(self._files(manifests, self._encrypted), of_models=False),
            live=live,
        )
        self._kept = kept

    def keep_nothing(self, reason: str) -> bool:
        """Go on with another engine, without rows in memory, which has yet to be shown everything.

        Returns:
            Whether any could have been kept before.
        """
        if not isinstance(self.engine, KeepingEngine):
            return False
        log.warning("the models' rows are read from their files for each query: %s", reason)
        self._kept = {}
        self.engine = Engine([self._data_dir / "segments"], prices=self._prices)  # queries under way have the other
        return True

    def _files(self, manifests: Iterable[Manifest], encrypted: EncryptedFiles) -> Files:
        """Files of data sets that have a view, and data sets some of whose files have other columns than now."""
        columns = segments.column_digests() | {
            name: segments.digest_names(column.name for column in model.columns)
            for name, model in stored_models().items()
        }
        files: dict[str, list[Path]] = {data_set: [] for data_set in columns}
        old: set[str] = set()
        locked: list[SegmentFile] = []
        for file in (file for manifest in manifests for file in manifest.files if file.data_set in files):
            if file.key_id:
                locked.append(file)
            else:
                files[file.data_set].append(self._data_dir / file.path)
            if file.columns != columns[file.data_set]:
                old.add(file.data_set)
        return Files(files, old, encrypted.data_sets(locked))


def _of_models(manifest: Manifest) -> Iterable[SegmentFile]:
    return (file for file in manifest.files if file.data_set in stored_models())


def _kept(manifest: Manifest) -> _Kept:
    untimed = any(facts.get("opened_at_ns") is None for facts in manifest.sessions.values())
    return _Kept(tuple(_of_models(manifest)), _today() if untimed else "")


def _today() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"


def _chosen(files: Files, *, of_models: bool) -> Files:
    names = [name for name in files.files if (name in stored_models()) == of_models]
    beside = {name: data_sets for name, data_sets in files.beside.items() if name in names}
    return Files({name: files.files[name] for name in names}, files.by_name & set(names), beside)

"""Keeping a workspace and its object store alike. The store's rules are the same there: manifests say what counts.

    push    data files → manifest, each created and never written over
    pull    list manifests → fetch those that are new, drop those that are gone
    fetch   data files as they are read, checked, kept as long as there is room

`WORKSPACE/remote` holds the manifests that are known to be in the object store, laid out as in a store. What is in the
workspace alone is still to be pushed. Nothing is ever removed from the object store because it is missing here.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from recorder.errors import CacheTooSmallError, DamagedManifestError, DamagedObjectError, ObjectGoneError, StoreError
from recorder.store import beside, keys, layout, lease, manifests
from recorder.store.manifests import Manifest, ManifestCache
from recorder.store.segments import SegmentFile
from recorder.store.threads import Progress, for_each

if TYPE_CHECKING:
    from recorder.store.objects import Bucket  # obstore is optional

log = logging.getLogger(__name__)

ON_DEMAND: Final = frozenset({"events", "appends", "parts", "audio"})
"""Data sets that are fetched when they are read, and may be evicted. The others are small and always here."""

PULL_SECONDS: Final = 5.0
RECENT_SECONDS: Final = 600.0
"""What was used so lately is not evicted: others may be reading it."""

_USED_SECONDS: Final = 60.0  # how exactly the time of use is kept
_BATCH: Final = 64
_LARGE: Final = 16 << 20
_MANIFESTS: Final = "manifests/"


class Mirror:
    """A workspace and its object store. Safe for use from several threads, and by several processes at once.

    Args:
        data_dir: the workspace.
        bucket: the object store.
        cache_bytes: how large data files get here that are in the bucket too.

    Attributes:
        known: a directory laid out as a store, with the manifests that are known to be in the bucket.
        temporary: where files are as long as they are being fetched.
    """

    def __init__(self, data_dir: Path, bucket: Bucket, cache_bytes: int) -> None:
        self.data_dir = data_dir
        self.bucket = bucket
        self.cache_bytes = cache_bytes
        self.known = data_dir / "remote"
        self.temporary = self.known / "tmp"
        self._pulled_at = -PULL_SECONDS
        self._is_linked = False
        self._pulling = threading.Lock()
        self._listing = threading.RLock()
        self._here, self._there = ManifestCache(data_dir), ManifestCache(self.known)
        for room in (layout.manifests(self.known), self.temporary):
            layout.make_directory(room)

    # What is new there

    def pull(self) -> None:
        """Take in which manifests came to the bucket and which went.

        Raises:
            ObjectStoreError: the bucket is away.
            StoreError: a manifest is damaged, or of a newer version.
        """
        with self._pulling:
            self._pulled_at = time.monotonic()
            before = self._names()
            there = self._listed()
            if before - there:  # a manifest may have taken another's place while we listed: it is in the next list
                there = self._listed()
            new = there - before
            for_each(self._take, sorted(new))
            self._forget(before - there)
            self._link(new if self._is_linked else None)
            self._is_linked = True

    def pull_soon(self) -> None:
        """Have it pulled in the background, unless that was done `PULL_SECONDS` ago: nobody waits for a slow bucket."""
        if time.monotonic() - self._pulled_at >= PULL_SECONDS and not self._pulling.locked():
            self._pulled_at = time.monotonic()
            threading.Thread(target=self._pull_or_say, name="pull", daemon=True).start()

    def _pull_or_say(self) -> None:
        try:
            self.pull()
        except StoreError as error:
            log.warning("%s", error.message)

    def _listed(self) -> set[str]:
        return {each.name for each in self.bucket.list(_MANIFESTS) if each.name.endswith(".json")}

    def _names(self) -> set[str]:
        found = layout.manifests(self.known).glob("date=*/[!.]*.json")
        return {path.relative_to(self.known).as_posix() for path in found}

    def _take(self, name: str) -> None:
        with contextlib.suppress(ObjectGoneError):
            self.write(self.known / name, self.bucket.get(name))

    def _link(self, names: set[str] | None) -> None:
        """Have known manifests that count in the workspace too; all of them if None."""
        try:
            counting = self._counting(self._there)
        except StoreError:
            for name in self._names():  # so that `verify` finds the one that cannot be read, and the others
                self._link_one(name)
            raise
        for manifest in counting:
            name = layout.manifest_path(manifest.date, manifest.name)
            is_new = (names is None or name in names) and self._link_one(name)
            if is_new and any(file.key_id for file in manifest.files):
                keys.mark(self.data_dir)

    def _link_one(self, name: str) -> bool:
        """Have a known manifest in the workspace; whether it was not there."""
        target = self.data_dir / name
        layout.make_directory(target.parent)
        try:
            os.link(self.known / name, target)
        except FileExistsError:
            return False
        return True

    def _forget(self, names: set[str]) -> None:
        """Drop manifests that are gone from the bucket, and the data files that only they name.

        Likewise rewritten ones that are here alone and were to replace them: what others did since, erase, say, counts.
        """
        if not names:
            return
        stems = {PurePath(name).stem for name in names}
        gone = [each for each in self.pending() if each.name.startswith(layout.COMPACT) and stems & {*each.replaces}]
        names = names | {layout.manifest_path(each.date, each.name) for each in gone}
        self._is_linked = self._is_linked and not gone  # what they were to replace counts again
        for name in names:
            with contextlib.suppress(FileNotFoundError, DamagedManifestError):
                gone.append(manifests.read(self.known / name))
        for name in names:
            (self.data_dir / name).unlink(missing_ok=True)
        named = {file.path for manifest in self._everything(self._here) for file in manifest.files}
        files = {file.path for manifest in gone for file in manifest.files} - named
        beside.drop_unfinished(self, files | names)
        for path in (*(self.data_dir / file for file in files), *(self.known / name for name in names)):
            path.unlink(missing_ok=True)

    # What is new here

    def pending(self) -> list[Manifest]:
        """The manifests that count here and are not known to be in the bucket."""
        there = {manifest.name for manifest in self._everything(self._there)}
        return [each for each in self._counting(self._here) if each.name not in there]

    def push(self, progress: Progress | None = None, *, wait: bool = True) -> int:
        """Bring to the bucket what is in the workspace alone. Broken off at any point, it can be called again.

        Args:
            progress: told after each batch of sessions.
            wait: for another process that does so; without, it is left to that.

        Returns:
            How many manifests were brought.

        Raises:
            ObjectStoreError: the bucket is away; nothing is lost.
            StoreError: a manifest is damaged.
        """
        pushed = 0
        with self._alone(wait=wait) as alone:
            pending = self.pending() if alone else []
            for start in range(0, len(pending), _BATCH):
                batch = pending[start : start + _BATCH]
                self._push_files(batch)
                for_each(self._push_manifest, batch)
                pushed += len(batch)
                if progress:
                    progress(pushed, len(pending))
            if alone:
                self._drop_parts()
                beside.push(self)
        if pushed:
            self._evict(0)
        return pushed

    @contextmanager
    def _alone(self, *, wait: bool) -> Iterator[bool]:
        with (self.known / "push.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def _push_files(self, batch: Sequence[Manifest]) -> None:
        there = {file.path: file.sha256 for each in self._everything(self._there) for file in each.files}
        wanted = [(each, file) for each in batch for file in each.files if there.get(file.path) != file.sha256]
        for_each(lambda one: self._push_file(*one), [one for one in wanted if one[1].bytes < _LARGE])
        for one in wanted:  # each is in memory while it goes
            if one[1].bytes >= _LARGE:
                self._push_file(*one)

    def _push_file(self, manifest: Manifest, file: SegmentFile) -> None:
        try:
            content = (self.data_dir / file.path).read_bytes()
        except FileNotFoundError:
            return  # replaced since: then what replaced its manifest comes next
        if self.bucket.create(file.path, content) or self.bucket.digest(file.path) == file.sha256:
            return
        # Left by an attempt that wrote no manifest; or the session is there already, which `_push_manifest` sees to.
        if not self.bucket.exists(layout.manifest_path(manifest.date, manifest.name)):
            self.bucket.overwrite(file.path, content)

    def _push_manifest(self, manifest: Manifest) -> None:
        name = layout.manifest_path(manifest.date, manifest.name)
        try:
            content = (self.data_dir / name).read_bytes()
        except FileNotFoundError:
            return
        if not self.bucket.create(name, content) and (theirs := self.bucket.get(name)) != content:
            log.warning("%s was there before from elsewhere, and stays as it is", name)
            self.write(self.data_dir / name, content := theirs)
            for file in manifest.files:
                (self.data_dir / file.path).unlink(missing_ok=True)
        self.write(self.known / name, content)

    def _drop_parts(self) -> None:
        """Remove the manifests of parts of whole sessions, since they hold bytes of the wire."""
        everything = self._everything(self._there)
        replaced = {name for manifest in everything for name in manifest.replaces}
        named = {file.path for each in everything if each.part is None for file in each.files}
        parts = [each for each in everything if each.part is not None and each.name in replaced]
        self.drop([part for part in parts if {file.path for file in part.files} <= named], files=())

    @contextmanager
    def rewriting(self, *, mending: bool = False) -> Iterator[None]:
        """Be level with the bucket, and the only machine that replaces manifests there: two would do so twice.

        Args:
            mending: be level as far as manifests can be read.

        Raises:
            StoreError: another one is at it, or the bucket is away.
        """
        with lease.held(self.bucket, f"{platform.node()}:{self.data_dir}"):
            with contextlib.suppress(*((DamagedManifestError,) if mending else ())):
                self.pull()
                self.push()
            beside.pull(self)
            yield
            self.push()

    def drop(self, gone: Sequence[Manifest], files: Iterable[str]) -> None:
        """Remove data files, then manifests, from the bucket.

        Args:
            gone: manifests that do not count, those before the ones that replaced them.
            files: names of data files that nobody needs any more.
        """
        self.bucket.delete(files := list(files))
        beside.drop_unfinished(self, files)
        for manifest in gone:
            name = layout.manifest_path(manifest.date, manifest.name)
            self.bucket.delete([name])
            (self.known / name).unlink(missing_ok=True)

    # Data files

    def ensure(self, files: Iterable[SegmentFile], progress: Progress | None = None, *, limited: bool = False) -> None:
        """Have data files here, which is to be called again before they are read again.

        Args:
            files: which.
            progress: told after each.
            limited: whether they must all fit into the cache.

        Raises:
            CacheTooSmallError: they do not.
            ObjectStoreError: the bucket is away, or one was replaced meanwhile.
            StoreError: one is damaged.
        """
        wanted = list({file.path: file for file in files}.values())
        if limited and (needed := sum(file.bytes for file in wanted)) > self.cache_bytes:
            raise CacheTooSmallError(needed, self.cache_bytes)
        missing = [file for file in wanted if not self._is_here(file)]
        if not missing:
            return
        with contextlib.suppress(DamagedManifestError):  # then it is not known what may go
            self._evict(sum(file.bytes for file in missing))
        for_each(self._fetch, missing, progress)

    def fetch(self, path: Path) -> None:
        """Have one data file here that a manifest names; of others, nothing is done."""
        name = path.relative_to(self.data_dir).as_posix()
        listed = (*self._everything(self._here), *self._everything(self._there))
        file = next((file for manifest in listed for file in manifest.files if file.path == name), None)
        if file is not None:
            self.ensure([file])

    def fetch_as_it_is(self, name: str) -> None:
        """Have an object here, whatever is in it.

        Raises:
            ObjectGoneError: there is none.
        """
        with self._new_file(self.data_dir / name) as temporary, temporary.open("wb") as target:
            self.bucket.fetch(name, target)

    def _is_here(self, file: SegmentFile) -> bool:
        path = self.data_dir / file.path
        try:
            status = path.stat()
            if status.st_size != file.bytes:
                return False
            if time.time() - status.st_atime > _USED_SECONDS:
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return False
        return True

    def _fetch(self, file: SegmentFile) -> None:
        with self._new_file(self.data_dir / file.path) as temporary, temporary.open("wb") as target:
            digest = self.bucket.fetch(file.path, target)
            if digest != file.sha256:
                raise DamagedObjectError(f"{self.bucket.url}/{file.path}")
            target.flush()
            os.fsync(target.fileno())

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the workspace's own; it appears whole or not at all."""
        with self._new_file(path) as temporary, temporary.open("wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())

    @contextmanager
    def _new_file(self, path: Path) -> Iterator[Path]:
        """A name to write to; what is written appears whole or not at all."""
        layout.make_directory(path.parent)
        temporary = self.temporary / f"{path.name}.{os.getpid()}.{threading.get_ident()}"
        try:
            yield temporary
            temporary.chmod(0o600)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _evict(self, coming: int) -> None:
        """Make room: what was not used for the longest time goes first, unless it was used lately."""
        pending = {file.path for each in self.pending() for file in each.files}
        here: list[tuple[float, int, Path]] = []
        for manifest in self._everything(self._there):
            for file in manifest.files:
                if file.data_set in ON_DEMAND and file.path not in pending:
                    with contextlib.suppress(FileNotFoundError):
                        status = (self.data_dir / file.path).stat()
                        here.append((status.st_atime, status.st_size, self.data_dir / file.path))
        size = coming + sum(each[1] for each in here)
        until = time.time() - RECENT_SECONDS
        for used_at, bytes_, path in sorted(set(here)):
            if size <= self.cache_bytes or used_at > until:
                return
            path.unlink(missing_ok=True)
            size -= bytes_

    def _counting(self, cache: ManifestCache) -> list[Manifest]:
        with self._listing:
            cache.refresh()
            return [*cache.counting, *(part for parts in cache.parts.values() for part in parts)]

    def _everything(self, cache: ManifestCache) -> list[Manifest]:
        with self._listing:
            return [*self._counting(cache), *cache.replaced.values()]

"""What the soak does to a store without calls: journals cut at every byte, two sealers at once, a disk that cannot be
written, clocks that jump. Sessions here are made by hand, so that what must come out is known to the message.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from websockets.frames import Frame, Opcode

from benchmarks.candidates import RECORDER
from benchmarks.evidence import seal
from benchmarks.processes import kill, tree
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.decoding import decode_journal
from recorder.pipeline.seal import seal_all
from recorder.pipeline.sort import Sorter
from recorder.protocol.envelope import RecordKind
from recorder.store import layout
from recorder.store.journal import MAGIC, encode_frame
from recorder.store.journal_files import journal_directory, journal_name, list_journals

_OPENED_AT_NS: Final = 1_769_860_800_000_000_000
_MILLISECOND: Final = 1_000_000
_AT_ONCE: Final = 256
_CHUNK: Final = 700
_SEALERS: Final = 2
_HELD: Final = """
SELECT session_id, list(event_id ORDER BY position) FILTER (event_id LIKE 'm%') AS said,
  count(*) AS events, count(DISTINCT position) AS positions, max(position) + 1 AS until
FROM events GROUP BY 1
"""

Tell = Callable[[float], None]


class Trial(msgspec.Struct):
    """One trial of the store.

    Attributes:
        name: for machines.
        what: in words.
        tried: prefixes, or sessions.
        lost: messages that were in a journal and are not on record.
        doubled: messages on record twice.
        wrong: sessions with anything else amiss.
        kills: of sealers.
        skipped: why it could not be done here.
    """

    name: str
    what: str
    tried: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    kills: int = 0
    skipped: str = ""

    def faults(self) -> dict[str, int]:
        """What must be 0, and is not."""
        found = {"messages lost": self.lost, "messages doubled": self.doubled, "sessions wrong": self.wrong}
        return {what: count for what, count in found.items() if count}

    def compare(self, said: Sequence[str], expected: Sequence[str]) -> None:
        """One session's messages on record, beside those that must be."""
        self.doubled += len(said) - len(set(said))
        self.lost += len(set(expected) - set(said))
        self.wrong += list(dict.fromkeys(said)) != list(expected)


class Session:
    """A session's journal, made by hand: messages both ways, some in several records.

    Args:
        number: makes its id.
        count: of messages.
        size: of each, in bytes, about.
        opened_at_ns: what the wall clock said.
        closed: whether its end is in.

    Attributes:
        data: the journal's bytes.
        messages: their event ids.
    """

    def __init__(
        self, number: int, *, count: int, size: int, opened_at_ns: int = _OPENED_AT_NS, closed: bool = False
    ) -> None:
        self.session_id = f"019c1410-7c00-7000-8000-{number:012x}"
        self.messages = [f"m{place}" for place in range(count)]
        self._frames: list[bytes] = []
        self._position = 0
        self._whole = [0]  # messages after each record
        facts = {
            "session_id": self.session_id, "source": "proxy", "opened_at": "2026-01-31T12:00:00Z",
            "opened_at_ns": opened_at_ns, "monotonic_ns": 0, "client": {"address": "127.0.0.1:5"}, "labels": {},
            "request": {"method": "GET", "target": "/v1/realtime?model=gpt-realtime", "headers": []},
            "upstream": "ws://127.0.0.1:1", "ring": f"r{number:06}", "session_no": 1, "recorder_version": "0",
        }  # fmt: skip
        self._record(RecordKind.OPENED, msgspec.json.encode(facts), 0)
        accepted = {"status": 101, "headers": [], "connect_seconds": 0.01, "handshake_seconds": 0.02}
        self._record(RecordKind.ACCEPTED, msgspec.json.encode({**accepted, "monotonic_ns": 1}), 0)
        for place, name in enumerate(self.messages):
            self._message(place, name, size)
        if closed:
            ended = {"closed_by": "client", "status": None, "error": None, "client_bytes": None, "server_bytes": None}
            self._record(RecordKind.CLOSED, msgspec.json.encode(ended), count)
        self.data = MAGIC + b"".join(self._frames)
        self._ends = [len(MAGIC)]
        for frame in self._frames:
            self._ends.append(self._ends[-1] + len(frame))

    def _message(self, place: int, name: str, size: int) -> None:
        mine = place % 3 == 0
        text = msgspec.json.encode({"type": "x.padding", "event_id": name, "padding": "ä" * (size // 2)})
        data = Frame(Opcode.TEXT, text).serialize(mask=mine)
        kind = RecordKind.CLIENT_BYTES if mine else RecordKind.SERVER_BYTES
        pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        for piece in pieces[:-1]:
            self._record(kind, piece, place)
        self._record(kind, pieces[-1], place + 1)

    def _record(self, kind: RecordKind, data: bytes, whole: int) -> None:
        at_ns = len(self._frames) * _MILLISECOND
        self._frames.append(encode_frame(self._position, at_ns, kind, data))
        self._position += len(data) + 32
        self._whole.append(whole)

    def expected(self, cut: int) -> list[str]:
        """The messages that a journal cut off at this byte holds whole."""
        return self.messages[: self._whole[max(bisect_right(self._ends, cut) - 1, 0)]]

    @property
    def facts_end(self) -> int:
        """Where the record that says whose journal it is ends."""
        return self._ends[1]

    def write(self, data_dir: Path, cut: int | None = None, *, closed: bool = False) -> Path:
        """Leave it in a store as a kill, or a power cut, would."""
        path = journal_directory(data_dir) / journal_name(self.session_id, 0, closed=closed)
        path.write_bytes(self.data[:cut])
        return path


@contextmanager
def store() -> Iterator[Path]:
    """An empty store, in memory where there is a place for it: thousands of syncs are not what is tried here."""
    room = Path(tempfile.mkdtemp(prefix="recorder-soak-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        layout.create(room / "data")
        journal_directory(room / "data").mkdir(mode=0o700, exist_ok=True)
        yield room / "data"
    finally:
        shutil.rmtree(room, ignore_errors=True)


def recover(data_dir: Path) -> None:
    """What the sorter does when it starts: whose ring is gone for ever is ended as lost."""
    sorter = Sorter(data_dir, data_dir.parent / "rings")
    sorter.sort()
    sorter.close()


def sealed_at_every_byte(*, count: int = 8, size: int = 60, step: int = 1, tell: Tell) -> Trial:
    """A journal cut at every byte, recovered and sealed, and looked up in the store."""
    trial = Trial("prefixes_sealed", "a journal cut at every byte, recovered and sealed")
    whole = Session(0, count=count, size=size)
    cuts = list(range(0, len(whole.data) + 1, step))
    for start in range(0, len(cuts), _AT_ONCE):
        with store() as data:
            batch = dict(enumerate(cuts[start : start + _AT_ONCE]))
            for number, cut in batch.items():
                Session(number, count=count, size=size).write(data, cut)
            recover(data)
            seal_all(data)
            expected = {
                Session(number, count=0, size=0).session_id: whole.expected(cut)
                for number, cut in batch.items()
                if cut >= whole.facts_end
            }
            _look_up(data, expected, trial)
        tell((start + len(batch)) / len(cuts))
    trial.tried = len(cuts)
    return trial


def decoded_at_every_byte(*, count: int = 120, size: int = 160, step: int = 1, tell: Tell) -> Trial:
    """A longer journal cut at every byte, recovered and decoded, without the files."""
    trial = Trial("prefixes_decoded", "a longer journal cut at every byte, recovered and decoded")
    session = Session(1, count=count, size=size)
    cuts = range(session.facts_end, len(session.data) + 1, step)
    with store() as data:
        for number, cut in enumerate(cuts):
            session.write(data, cut)
            recover(data)
            (journal,) = list_journals(data)
            events = list(decode_journal(journal.path))
            trial.compare([str(one.event_id) for one in events if one.event_id], session.expected(cut))
            trial.wrong += [one.position for one in events] != list(range(len(events)))
            trial.wrong += events[-1].type != "recorder.session_closed"
            journal.path.unlink()
            if not number % _AT_ONCE:
                tell(number / len(cuts))
    trial.tried = len(cuts)
    return trial


def two_sealers(*, sessions: int = 768, kills: int = 8, seed: int = 0, tell: Tell) -> Trial:
    """Sealers at the same journals at once, killed at random instants."""
    trial = Trial("two_sealers", f"{_SEALERS} sealers at once, killed and started anew", tried=sessions)
    chance = random.Random(seed)
    with store() as data:
        made = _fill(data, sessions)
        running: list[subprocess.Popen[bytes]] = []
        try:
            while list_journals(data) and trial.kills < kills:
                while len(running) < _SEALERS:
                    running.append(_sealer(data))
                time.sleep(chance.uniform(0.8, 2.0))
                victim = running.pop(0)
                if victim.poll() is None:
                    kill(tree(victim.pid))
                    trial.kills += 1
                victim.wait()
                tell(trial.kills / kills)
        finally:
            for one in running:
                one.wait()
        seal(data)
        _look_up(data, {session.session_id: session.messages for session in made}, trial)
    return trial


def _sealer(data: Path) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [*RECORDER, "seal", "--data", str(data)], stdout=quiet, stderr=quiet, start_new_session=True
    )


def read_only(*, sessions: int = 24, tell: Tell) -> Trial:
    """A store on a file system that turns read-only, and back: nothing is sealed, nothing is lost."""
    trial = Trial("read_only", "the store's disk turns read-only while journals wait, and back", tried=sessions)
    with tempfile.TemporaryDirectory(prefix="recorder-soak-") as room:
        data = Path(room) / "data"
        data.mkdir()
        if not _mount("-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(data)):
            trial.skipped, trial.tried = "file systems may not be mounted here", 0
            return trial
        try:
            layout.create(data)
            journal_directory(data).mkdir(mode=0o700, exist_ok=True)
            made = _fill(data, sessions)
            _mount("-o", "remount,ro", str(data))
            postponed = len(seal_all(data).postponed)
            trial.wrong += postponed != sessions or len(list_journals(data)) != sessions
            tell(0.5)
            _mount("-o", "remount,rw", str(data))
            seal_all(data)
            _look_up(data, {session.session_id: session.messages for session in made}, trial)
        finally:
            subprocess.run(["umount", str(data)], check=False)
    return trial


def clock_steps(*, tell: Tell) -> Trial:
    """Sessions opened while the wall clock jumps to and fro: each on record, once, as long as it was."""
    hour = 3600 * 10**9
    jumps = [0, -hour, 24 * hour, -24 * hour, 400 * 24 * hour, -_OPENED_AT_NS, -1, 0]
    trial = Trial("clock_steps", "sessions opened while the wall clock jumps by hours, a year, and to 1970")
    with store() as data:
        made = [
            Session(number, count=8, size=60, opened_at_ns=_OPENED_AT_NS + jump, closed=True)
            for number, jump in enumerate(jumps)
        ]
        for session in made:
            session.write(data, closed=True)
            tell(0.5)
        trial.wrong += len(seal_all(data).sealed) != len(made)
        _look_up(data, {session.session_id: session.messages for session in made}, trial)
        with Catalog(data) as catalog:
            trial.wrong += len(set(catalog.query("SELECT duration_seconds FROM sessions")["duration_seconds"])) != 1
    trial.tried = len(made)
    return trial


def _fill(data: Path, sessions: int) -> list[Session]:
    made = [Session(number, count=20, size=200, closed=True) for number in range(sessions)]
    for session in made:
        session.write(data, closed=True)
    return made


def _look_up(data: Path, expected: dict[str, list[str]], trial: Trial) -> None:
    with Catalog(data) as catalog:
        held = {row["session_id"]: row for row in catalog.query(_HELD).iter_rows(named=True)}
    trial.wrong += len(held.keys() ^ expected.keys())
    for session_id in held.keys() & expected.keys():
        row = held[session_id]
        trial.compare(row["said"] or [], expected[session_id])
        trial.wrong += not row["events"] == row["positions"] == row["until"]


def _mount(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except OSError:
        return False

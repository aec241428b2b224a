"""The soak's trials of a store in small, and that they notice what they are there for."""

import msgspec
import pytest

from benchmarks import soak, soak_store
from benchmarks.evidence import Evidence
from benchmarks.load import Latency, Outcome, Tally
from benchmarks.soak_calls import Calls, Memory
from benchmarks.soak_store import Session, Trial
from recorder.pipeline.seal import seal_all


def ignore(_: float) -> None:
    pass


def test_a_journal_cut_at_any_byte_loses_and_doubles_nothing_that_was_whole() -> None:
    decoded = soak_store.decoded_at_every_byte(count=30, size=100, step=11, tell=ignore)
    assert (decoded.faults(), decoded.tried > 300) == ({}, True)
    sealed = soak_store.sealed_at_every_byte(count=4, step=23, tell=ignore)
    assert (sealed.faults(), sealed.tried > 40) == ({}, True)


def test_sealers_at_once_a_read_only_disk_and_clocks_that_jump() -> None:
    sealers = soak_store.two_sealers(sessions=8, kills=1, tell=ignore)
    assert (sealers.faults(), sealers.tried) == ({}, 8)
    read_only = soak_store.read_only(sessions=3, tell=ignore)
    assert read_only.faults() == {}
    assert read_only.skipped or read_only.tried == 3
    clocks = soak_store.clock_steps(tell=ignore)
    assert (clocks.faults(), clocks.tried) == ({}, 8)


def test_what_a_cut_leaves_whole_is_known() -> None:
    session = Session(1, count=3, size=2000)
    assert session.expected(len(session.data)) == ["m0", "m1", "m2"]
    assert session.expected(len(session.data) - 1) == ["m0", "m1"]
    assert session.expected(session.facts_end) == []
    assert session.expected(0) == []


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (["m0", "m1"], {}),
        (["m0", "m1", "m2"], {"messages lost": 1, "sessions wrong": 1}),
        (["m1", "m0"], {"sessions wrong": 1}),
    ],
)
def test_what_is_lost_or_out_of_order_in_a_store_is_seen(expected: list[str], found: dict[str, int]) -> None:
    trial = Trial("x", "y")
    with soak_store.store() as data:
        session = Session(1, count=2, size=60, closed=True)
        session.write(data, closed=True)
        assert seal_all(data).sealed == [session.session_id]
        soak_store._look_up(data, {session.session_id: expected}, trial)
    assert trial.faults() == found


def test_what_is_doubled_is_seen() -> None:
    trial = Trial("x", "y")
    trial.compare(["m0", "m1", "m1"], ["m0", "m1"])
    assert trial.faults() == {"messages doubled": 1}


def calls(name: str, **seen: int) -> Calls:
    counts = dict.fromkeys(Evidence.__struct_fields__, 0) | seen
    latency, tally = Latency(0, 0, 0, 0, 0, 0), Tally(0, 0, 0, 0, 0)
    broken = Outcome(9, 3, 0, 0, 1.0, 1.0, tally, tally, latency, latency, latency, latency)
    memory = {"worker": Memory(30.0, 4.2, 1.0)} if name == "steady" else {}
    evidence = msgspec.convert(counts, Evidence)
    return Calls(name=name, outcome=broken, evidence=evidence, holes=0, instants=5, kills={"worker": 5}, memory=memory)


def test_a_report_says_what_must_not_be() -> None:
    report = soak.Report(command="x", machine={}, seed=1)
    assert report.faults() == {}
    report.calls = [calls("steady"), calls("storm", missing=2, doubled=1)]
    report.trials = [Trial("two_sealers", "y", lost=7)]
    assert report.faults() == {
        "steady: broken": 3,
        "steady: MiB that the worker grew by": 4,
        "storm: forwarded and not on record": 2,
        "storm: on record twice": 1,
        "two_sealers: messages lost": 7,
    }
    rows = list(zip(*(column.cells for column in soak.table(report).columns), strict=True))
    assert [row[0] for row in rows] == ["steady", "storm", "two_sealers"]
    assert [row[2:4] for row in rows] == [("0", "0"), ("2", "1"), ("7", "0")]

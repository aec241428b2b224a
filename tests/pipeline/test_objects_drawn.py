"""Machines that share a bucket lose the network, or are killed, at any request of whatever they do: nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recorder.errors import SessionNotFoundError, StoreError
from recorder.pipeline.catalog import Catalog
from recorder.pipeline.compact import compact
from recorder.pipeline.erase import erase, find
from recorder.pipeline.verify import verify
from recorder.store import workspace
from tests.drawing import examples
from tests.pipeline.buckets import BUCKET
from tests.pipeline.machines import in_bucket, messages, mirror, names, sealed
from tests.pipeline.s3_server import FaultyProxy
from tests.pipeline.scan import found
from tests.pipeline.test_erase import words

RECORDING = ("a", "b")
ACTIONS = ("push", "compact", "erase")
COUNT = "SELECT session_id, list(position ORDER BY position) AS positions FROM events GROUP BY ALL"


class Step(NamedTuple):
    """What a machine does, and the request from which on nothing comes through, or no answer to the first of them."""

    machine: str
    action: str
    cut_at: int
    carried_out: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(RECORDING),
        st.sampled_from(["push", "compact", "erase"]),
        st.integers(1, 60),
        st.booleans(),
    ),
    min_size=2,
    max_size=4,
)


@contextmanager
def cut(network: FaultyProxy, step: Step) -> Iterator[None]:
    numbers = itertools.count(1)

    def fault(_method: str, _path: str) -> str | None:
        number = next(numbers)
        if number < step.cut_at:
            return None
        return "lost" if number == step.cut_at and step.carried_out else "cut"

    network.fault = fault
    with contextlib.suppress(StoreError):
        yield
    network.fault = lambda _method, _path: None


class House:
    """The machines and what must be in the bucket. Sessions are numbered; each has words of its own."""

    def __init__(self, room: Path, url: str, patch: pytest.MonkeyPatch) -> None:
        self.stores = {}
        for machine in (*RECORDING, "reader", "afresh"):
            patch.setenv("RECORDER_CACHE_DIR", str(room / machine))
            self.stores[machine] = workspace.resolve(url)
        self.said: dict[str, list[bytes]] = {}
        self.numbers: dict[str, int] = {}
        self.there: set[str] = set()
        self.to_be_erased: set[str] = set()
        self.seen: set[str] = set()

    def record(self, machine: str) -> None:
        number = len(self.said) + 1
        (session_id,) = sealed(self.stores[machine], number)
        self.numbers[session_id] = number
        self.said[session_id] = messages(self.stores[machine], session_id)

    def act(self, machine: str, action: str) -> None:
        store = self.stores[machine]
        if action == "push":
            pending = {one for manifest in mirror(store).pending() for one in manifest.sessions}
            mirror(store).push()
            self.there |= pending
        elif action == "compact":
            compact(store, grace_seconds=0)
        elif known := sorted(self.there - self.to_be_erased):
            self.to_be_erased.add(known[0])
            erase(store, known[:1])

    def look(self, machine: str) -> set[str]:
        """What a machine sees: every session whole and once."""
        store = self.stores[machine]
        mirror(store).pull()
        with Catalog(store) as catalog:
            events = dict(catalog.query(COUNT).rows())
            sessions = catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()
        assert sessions == sorted(events)
        for session_id, positions in events.items():
            assert positions == list(range(len(positions))), session_id
        return set(events)


@pytest.mark.hypothesis
def test_cut_off_at_any_request_nothing_is_lost_doubled_or_left(
    network: FaultyProxy, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recorder.store.objects._RETRIES", 0)
    number = itertools.count(1)

    @settings(
        max_examples=examples(2),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(steps=STEPS)
    def any_steps(steps: list[Step]) -> None:
        room = tmp_path_factory.mktemp("drawn")
        house = House(room, f"s3://{BUCKET}/drawn-{room.name}-{next(number)}", monkeypatch)
        for machine in RECORDING:
            house.record(machine)
            house.act(machine, "push")
        for step in steps:
            if step.action == "push":
                house.record(step.machine)
            with cut(network, step):
                house.act(step.machine, step.action)
            assert house.look("reader") >= house.there - house.to_be_erased
        _all_is_well(house, room)

    any_steps()


def _all_is_well(house: House, room: Path) -> None:
    """When the network is back: what was broken off is done again, and all machines see the same."""
    first = house.stores[RECORDING[0]]
    mirror(first).bucket.delete(["rewrite.lease"])  # of a machine that was killed, as its error says
    for machine in RECORDING:
        house.act(machine, "push")
    for session_id in house.to_be_erased:
        with contextlib.suppress(SessionNotFoundError):  # what is left of one that is not there any more is removed
            erase(first, find(first, [session_id]))
    compact(first, grace_seconds=0)
    kept = house.said.keys() - house.to_be_erased
    for machine in house.stores:
        assert house.look(machine) == kept
    for session_id in kept:
        assert messages(house.stores["afresh"], session_id) == house.said[session_id]
    assert not list(verify(house.stores["afresh"]))
    in_bucket(first, room / "bucket")
    for session_id in house.to_be_erased:
        assert not found(words(session_id, house.numbers[session_id]), room / "bucket", *house.stores.values())
    manifests = names(first, "manifests/")
    assert len(manifests) == bool(kept)

"""Machines that share a store in a bucket, for tests: what each does, has and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.pipeline.catalog import Catalog
from recorder.pipeline.seal import seal_all
from recorder.store.remote import Mirror
from recorder.store.workspace import remote_of
from tests.pipeline.conftest import Journal
from tests.pipeline.test_erase import talk

everywhere = pytest.mark.parametrize("provider", ["s3", "az", "gs"])
"""What holds of one kind of object store holds of each."""


def mirror(data_dir: Path) -> Mirror:
    found = remote_of(data_dir)
    assert found is not None
    return found


def names(data_dir: Path, folder: str = "") -> set[str]:
    return {each.name for each in mirror(data_dir).bucket.list(folder)}


def in_bucket(data_dir: Path, copy: Path) -> None:
    """A copy of all that is in the bucket."""
    for name in names(data_dir):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(mirror(data_dir).bucket.get(name))


def read_ids(data_dir: Path) -> list[str]:
    with Catalog(data_dir) as catalog:
        return catalog.query("SELECT session_id FROM sessions ORDER BY ALL")["session_id"].to_list()


def sealed(data_dir: Path, *numbers: int) -> list[str]:
    journals = [talk(Journal(data_dir, number), number).closed() for number in numbers]
    seal_all(data_dir)
    return [journal.session_id for journal in journals]


def rows(data_dir: Path, *views: str) -> list[Any]:
    with Catalog(data_dir) as catalog:
        return [sorted(catalog.query(f"FROM {view}").rows(), key=repr) for view in views]


def messages(data_dir: Path, session_id: str) -> list[bytes]:
    with Catalog(data_dir) as catalog:
        return [event.message() for event in catalog.recorded_events(session_id)]

"""What a bucket asks twice, without a network."""

import hashlib
import io
from collections.abc import Iterator
from types import SimpleNamespace

import obstore
import pytest
from obstore.exceptions import GenericError

from recorder.store.objects import Bucket


def test_what_is_fetched_again_stands_alone_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_chunk: int) -> Iterator[bytes]:
        yield b"a longer object, which was overwritten meanwh"
        raise GenericError("it broke off")

    answers = iter([broken, lambda _chunk: iter([b"a shorter one"])])
    monkeypatch.setattr(obstore, "get", lambda *_: SimpleNamespace(stream=next(answers)))
    file = io.BytesIO()
    assert Bucket("s3://bucket/prefix").fetch("one", file) == hashlib.sha256(b"a shorter one").hexdigest()
    assert file.getvalue() == b"a shorter one"

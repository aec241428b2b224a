import tracemalloc
import zlib

from recorder.protocol.envelope import RecordKind
from recorder.proxy.farewell import FrameWatch

SERVER = RecordKind.SERVER_BYTES


def test_a_frame_of_any_size_is_followed_without_being_held() -> None:
    watch = FrameWatch(None, None)
    watch.chunk(SERVER, b"\x81\x02{}")
    piece = bytes(1 << 16)
    tracemalloc.start()
    try:
        watch.chunk(SERVER, b"\x82\x7f" + (1 << 24).to_bytes(8))
        assert not watch.may_speak(SERVER, held_back=False)
        for _ in range(256):
            watch.chunk(SERVER, piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watch.may_speak(SERVER, held_back=False)
    assert peak < 1 << 20


def test_a_bomb_is_not_inflated_where_callers_wait() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(bytes(32 << 20)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
    watch = FrameWatch(None, "permessage-deflate")
    tracemalloc.start()
    try:
        watch.chunk(SERVER, b"\xc1\x7e" + len(bomb).to_bytes(2) + bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert watch.may_speak(SERVER, held_back=False)
    assert peak < 6 << 20

"""How `carry.c` becomes the module `_carry` of this package: for `setup.py`, and nobody else."""

from pathlib import Path

from cffi import FFI  # type: ignore[import-untyped]

SHARED = """
enum { CARRIED, SAMPLED, NO_ROOM, NOTHING, UNSENT };
struct record { uint32_t length, session_no; uint64_t at_ns, kind; };
struct place { uint8_t *ring; uint64_t *head, *settled; uint64_t next, room_until, window; int64_t lap; };
struct lane {
    struct place *place;
    int source, sink, blocked;
    uint32_t session_no, sample_every, until_sample;
    uint64_t kind, carried, body, at_ns, took_ns;
    int error;
    uint8_t *unsent;
    size_t unsent_bytes;
};
struct undone { int fd, outcome; uint32_t mask; };
struct serving {
    int epoll, lanes_size, undone_count;
    struct lane **lanes;
    struct undone undone[64];
    uint64_t ready[64];
};
"""

ffi = FFI()
ffi.cdef(
    SHARED
    + """
    int carry(struct lane *); int take(struct lane *); uint64_t room(struct lane *); int give(struct lane *, size_t);
    int serve(struct serving *, int);
    """
)
ffi.set_source(
    "recorder.store._carry",
    "#include <stdint.h>\n#include <sys/types.h>\n#define AT_ONCE 64\n"
    + SHARED
    + Path(__file__).with_name("carry.c").read_text(encoding="utf-8"),
    extra_compile_args=["-O2"],
)

"""The C library's allocator, told once at the start of a program to keep the memory of big tensors.

By default glibc maps every block of 32 MiB or more anew and gives the end of its heap back to the kernel, which fills
each page with zeros again at the next update: a quarter of the time of training on a CPU.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping


SWITCH = "HF_NAT_MALLOC"
# Parameters of mallopt(3), in its numbers, and their values in bytes: blocks of less come from the heap, so much free
# memory stays at its end, and it grows by so much more than is asked for.
_MMAP_THRESHOLD = (-3, 2**30)
_TRIM_THRESHOLD = (-1, 2**31 - 1)
_TOP_PAD = (-2, 2**26)


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Tells glibc to keep the memory of freed tensors for the next ones; a program calls it once, at its start.

    Nothing is done where the C library is another one, another allocator is preloaded or linked (jemalloc, tcmalloc),
    the user has set glibc's own variables (`MALLOC_*`, `GLIBC_TUNABLES`), or under `HF_NAT_MALLOC=off`. The processes
    that this one forks keep the setting, those that it spawns call again.

    Args:
        environment (`Mapping[str, str]`, *optional*): environment variables, by default those of the process.

    Returns:
        `bool`: whether the allocator was told.

    Raises:
        ValueError: if `HF_NAT_MALLOC` is neither `on` nor `off`.
    """
    switch = environment.get(SWITCH, "on")
    if switch not in ("on", "off"):
        raise ValueError(f"`{SWITCH}` must be on or off, got {switch!r}.")
    is_users = any(name.startswith("MALLOC_") for name in environment)
    is_users = is_users or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
    if switch == "off" or is_users or not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) == 1 for setting in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD))


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc: hblkhd are the bytes of mapped blocks, uordblks those of the others."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _is_glibc() -> bool:
    """Tells whether the process's `malloc` is that of glibc."""
    try:
        program, library = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
        # The program's may be a jump in itself, as in the Python of Debian; then blocks and libraries tell to where.
        return _malloc(program) == _malloc(library) or (
            _counts_blocks(program, library) and all(_malloc(one) == _malloc(library) for one in _loaded())
        )
    except (OSError, AttributeError, TypeError):  # another system: no such library, symbol or handle
        return False


def _malloc(library: ctypes.CDLL) -> int | None:
    return ctypes.cast(library.malloc, ctypes.c_void_p).value


def _loaded() -> Iterator[ctypes.CDLL]:
    """Yields the libraries of the process that have or use a `malloc`, but for the loader, whose one is for itself."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = {fields[5].rstrip("\n") for line in maps if len(fields := line.split(maxsplit=5)) == 6}
    for path in sorted(paths):
        if ".so" in os.path.basename(path) and not os.path.basename(path).startswith("ld-"):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
            if hasattr(library, "malloc"):
                yield library


def _counts_blocks(program: ctypes.CDLL, library: ctypes.CDLL) -> bool:
    """Tells whether a block that the program asks for is one in glibc's books; none of its pages is touched."""
    library.mallinfo2.restype, program.malloc.restype, size = _MallInfo, ctypes.c_void_p, 2**26

    def used() -> int:
        books = library.mallinfo2()
        return books.hblkhd + books.uordblks

    before = used()
    block = program.malloc(ctypes.c_size_t(size))
    after = used()
    program.free(ctypes.c_void_p(block))
    return after - before >= size

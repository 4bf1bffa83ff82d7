"""The allocator's setting, read back by what it does: new pages for blocks that are used again and again."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hf_nat.base.allocator
from hf_nat.base.allocator import SWITCH, keep_freed_memory
from hf_nat.cli import main as command
from hf_nat.cli import toy


# Without torch, whose import takes seconds: loads the module by itself, then uses a block of 48 MiB twenty times.
PROGRAM = """
import ctypes, importlib.util, resource, sys

spec = importlib.util.spec_from_file_location("allocator", sys.argv[1])
allocator = importlib.util.module_from_spec(spec)
spec.loader.exec_module(allocator)
told = allocator.keep_freed_memory()
program = ctypes.CDLL(None)
program.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where the kernel gives huge pages, one fault is 512 pages
program.malloc.restype, size, times = ctypes.c_void_p, 48 * 2**20, 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(times):
    block = program.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    program.free(ctypes.c_void_p(block))
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(told, faults * resource.getpagesize() / (size * times))
"""
# An allocator of its own, as jemalloc would be: all of the C library's, but not its `malloc`.
OTHER_ALLOCATOR = """
#include <stddef.h>
void *__libc_malloc(size_t);
void *malloc(size_t n) { return __libc_malloc(n); }
"""
on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")


def run(**environment: str) -> tuple[bool, float]:
    """Returns whether the allocator was told, and the share of the written bytes whose pages were new."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, hf_nat.base.allocator.__file__],
        env={"PATH": "", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told, share = result.stdout.split()
    return told == "True", float(share)


@on_glibc
def test_freed_blocks_are_used_again_and_the_switch_leaves_the_default() -> None:
    told, share = run()
    assert told
    assert share < 0.2, "the first of twenty blocks alone needs new pages"
    told, share = run(HF_NAT_MALLOC="off")
    assert not told
    assert share > 0.8


@on_glibc
@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_ARENA_MAX": "1"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=128"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_what_the_user_set_comes_first(variables: dict[str, str]) -> None:
    assert not keep_freed_memory(variables)


@on_glibc
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_preloaded_allocator_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text(OTHER_ALLOCATOR)
    library = str(tmp_path / "other.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "other.c")], check=True)
    assert run(LD_PRELOAD=library)[0] is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ctypes.CDLL

    def without_glibc(name: str | None, *args: Any, **kwargs: Any) -> ctypes.CDLL:
        if name == "libc.so.6":
            raise OSError("libc.so.6: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(ctypes, "CDLL", without_glibc)
    assert not keep_freed_memory({})


def test_the_switch_is_on_or_off() -> None:
    with pytest.raises(ValueError, match="`HF_NAT_MALLOC` must be on or off, got 'of'"):
        keep_freed_memory({SWITCH: "of"})


def test_every_command_tells_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(command, "keep_freed_memory", lambda: calls.append("told"))
    monkeypatch.setattr(command, "_set_up_logging", lambda: None)
    monkeypatch.setattr(toy, "run", lambda argv: calls.append("run"))
    command.run_command("toy", [])
    assert calls == ["told", "run"]

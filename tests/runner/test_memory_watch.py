"""The memory of a program is that of all its processes, and shared pages count once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clary.runner.memory_watch import MemoryWatch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
MIB = 1 << 20

# The parent holds 60 MiB, which its two children share with it; the first child takes 40 more.
PROGRAM = f"""
import os, sys
held = bytearray(os.urandom(1)) * {60 * MIB}
if os.fork() == 0:
    more = bytearray(os.urandom(1)) * {40 * MIB}
    print("up", flush=True)
    sys.stdin.read()
    os._exit(0)
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def program() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid
        process.communicate()


@pytest.mark.parametrize(("mebibytes", "exceeded"), [(95, True), (150, False), (1000, False)])
def test_all_processes_count_and_shared_pages_count_once(
    program: int, mebibytes: int, exceeded: bool
) -> None:
    assert MemoryWatch(mebibytes * MIB, lambda: [program]).is_exceeded() is exceeded


def test_processes_that_are_gone_hold_nothing() -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    assert MemoryWatch(1, lambda: [gone, 0]).is_exceeded() is False


def test_it_does_not_look_again_at_once(program: int) -> None:
    looks: list[int] = []
    watch = MemoryWatch(1, lambda: looks.append(1) or [program])
    assert watch.is_exceeded() is True
    assert watch.is_exceeded() is False
    assert len(looks) == 1

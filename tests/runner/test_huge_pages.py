"""A warm parent's memory in huge pages: the same bytes, in fewer and larger pieces, private to each fork."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

from clary.runner import huge_pages

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs madvise")
SIZE = 8 << 20


def test_what_is_gathered_keeps_its_content_and_a_fork_has_its_own_copy() -> None:
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        content = os.urandom(1 << 20) * (SIZE >> 20)
        held[:] = content
        gathered = huge_pages.gather()
        if not gathered:
            pytest.skip("this kernel gathers nothing: it needs Linux 6.1 with huge pages")
        assert held[:] == content
        process = os.fork()
        if process == 0:
            held[:4096] = bytes(4096)
            os._exit(0 if held[4096:] == content[4096:] else 1)
        assert os.waitpid(process, 0)[1] == 0
        assert held[:] == content

"""The way control and the door are started: their exit code is told, their bytecode is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
import gc, sys
def main():
    print(gc.isenabled(), gc.get_freeze_count() > 0)
    return 7
"""


def test_bytecode_is_kept_in_the_cache_where_python_may_not_write_it(tmp_path: Path) -> None:
    sources, cache = tmp_path / "sources", tmp_path / "cache"
    sources.mkdir()
    (sources / "stand_in.py").write_text(MODULE)
    path = os.pathsep.join([str(sources), str(Path(__file__).parents[2])])
    given = {"PYTHONPATH": path, "CLARY_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "clary.start", "stand_in"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "True True\n", "")
    assert [one.name.split(".")[0] for one in cache.rglob("stand_in*.pyc")] == ["stand_in"]
    assert list(sources.rglob("*.pyc")) == []

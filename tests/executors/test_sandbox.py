"""The sandbox executor keeps the executor contract in every mode that this machine offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.executors.capabilities import probe
from clary.executors.contract import Executor, LaunchError
from clary.executors.sandbox import SandboxExecutor
from clary.settings import Settings

from .executor_contract import Bench, ExecutorContract, launch_in_child, wait_for

FOUND = probe()
NOBODY = 65534
ROOT = Path(__file__).parents[2]


class _Sandbox(ExecutorContract):
    mode = ""

    @classmethod
    def make_executor(cls, home: Path) -> Executor:
        return SandboxExecutor(Settings(home=home), mode=cls.mode, capabilities=FOUND)

    @classmethod
    def close_executor(cls, executor: Executor) -> None:
        assert isinstance(executor, SandboxExecutor)
        executor.close()
        run = executor._settings.run
        wait_for(lambda: not list(run.glob("*.sock")), "the end of the warm parents")

    def launch_elsewhere(self, bench: Bench, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
        return launch_in_child(bench.home, self.mode, spec)


@pytest.mark.skipif(not FOUND.bubblewrap, reason=FOUND.explanations["bubblewrap"])
class TestBubblewrap(_Sandbox):
    mode = "bubblewrap"


@pytest.mark.skipif(not FOUND.namespaces, reason=FOUND.explanations["namespaces"])
class TestNamespaces(_Sandbox):
    mode = "namespaces"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
class TestPlain(_Sandbox):
    mode = "plain"
    isolated = False

    def test_network_isolation_is_refused_where_it_cannot_be_given(self, bench: Bench) -> None:
        with pytest.raises(LaunchError, match="network isolation"):
            bench.executor.launch([bench.spec("true", network_isolation=True)])


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A folder of an ordinary user; pytest's own are closed to all but the one who runs it."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.mark.skipif(not FOUND.root, reason="this run is one of an ordinary user already")
@pytest.mark.parametrize("tests", ["TestNamespaces", "TestBubblewrap", "TestPlain", "warm"])
def test_an_ordinary_user_has_the_same_contract(tests: str, open_home: Path) -> None:
    setpriv, python = shutil.which("setpriv"), "/usr/bin/python3"
    packages = next((path for path in sys.path if path.endswith("site-packages")), "")
    if setpriv is None or not Path(python).exists():
        pytest.skip("needs setpriv and a Python that everybody may run")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    if f" {version}." not in asked:
        pytest.skip(f"{python} is not Python {version}")
    prefix = open_home / "environment"
    subprocess.run([python, "-m", "venv", "--without-pip", str(prefix)], check=True)
    command = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += [str(prefix / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    command += ["--basetemp", str(open_home / "t")]
    if tests == "warm":
        command += [str(ROOT / "tests" / "runner" / "test_fork_server.py"), "--noconftest"]
    else:
        command += [str(Path(__file__)), "-k", tests]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(open_home),
        "PYTHONPATH": f"{ROOT}:{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

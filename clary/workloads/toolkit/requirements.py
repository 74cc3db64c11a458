"""Installs what a user's code requires, beside the image's environment and never into it.

Only what the environment lacks is installed: a first, dry run says what that is, and exactly this
goes into a directory of its own. So numpy is not installed a second time because pandas wants it.
With CLARY_PACKAGES_CACHE the directory is kept under the requirements' digest and found again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from clary.workloads.toolkit.failures import CommandFailed, UserError

log = logging.getLogger("clary.toolkit")

TIMEOUT_SECONDS = 3600
_UV_PLAN = re.compile(r"^\s*\+\s+(\S+?)==(\S+)(?:\s+\(from (.+)\))?\s*$")
# Lines that point at further files or directories: their digest says nothing of what they hold.
_LOCAL_LINE = re.compile(
    r"^\s*(-[erc]\b|--(editable|requirement|constraint|find-links)\b|\.|/)|file:"
)
_PIP_SETTINGS = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
}


class RequirementsError(UserError):
    """The requirements cannot be installed here."""


def install_file(file: Path, environ: Mapping[str, str]) -> list[Path]:
    """Install a requirements file; return the directories to put at the front of sys.path."""
    text = file.read_text(encoding="utf-8-sig")
    cache = environ.get("CLARY_PACKAGES_CACHE")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    if not any(lines):
        return []
    words = ["-r", file.name]
    if not cache or any(_LOCAL_LINE.search(line) for line in lines):
        return _install(words, file.parent, _private(environ), environ)
    place = Path(cache) / cache_key(text)
    if (place / "complete").is_file():
        log.info("The requirements were installed before: %s", place.name)
        return [place / "packages"]
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        _install(words, file.parent, scratch / "packages", environ)
        (scratch / "packages").mkdir(exist_ok=True)
        (scratch / "complete").touch()
        scratch.chmod(0o755)
        try:
            scratch.rename(place)
        except OSError:
            # Another job has installed the same in the meantime; its directory is as good.
            if not (place / "complete").is_file():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [place / "packages"]


def install_package(code: Path, environ: Mapping[str, str]) -> list[Path]:
    """Install the package in the code directory together with what it requires."""
    words = ["."]
    if (code / "requirements.txt").is_file():
        words += ["-r", "requirements.txt"]
    return _install(words, code, _private(environ), environ, kind="InstallModuleError")


def cache_key(text: str) -> str:
    """Return the name of the installed requirements: their text, the interpreter, its packages."""
    from importlib.metadata import distributions

    present = sorted(f"{d.metadata['Name']}=={d.version}" for d in distributions())
    about = [text, sys.version, sys.platform, os.uname().machine, *present]
    return hashlib.sha256("\0".join(about).encode("utf-8")).hexdigest()[:32]


def _private(environ: Mapping[str, str]) -> Path:
    given = environ.get("CLARY_REQUIREMENTS_DIR")
    return Path(given) if given else Path(tempfile.mkdtemp(prefix="requirements-"))


def _install(
    words: list[str],
    directory: Path,
    target: Path,
    environ: Mapping[str, str],
    kind: str = "InstallRequirementsError",
) -> list[Path]:
    log.info("Installing dependencies: %s", " ".join(words))
    uv = environ.get("CLARY_UV") or shutil.which("uv")
    if uv:
        missing = _plan_with_uv(uv, words, directory, environ, kind)
        command = [uv, "pip", "install", "--no-deps", "--python", sys.executable]
    elif importlib.util.find_spec("pip") is not None:
        missing = _plan_with_pip(words, directory, environ, kind)
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--quiet"]
    else:
        raise RequirementsError(
            "requirements.txt cannot be installed: this environment has neither pip nor uv."
        )
    if not missing:
        log.info("The environment has all of it already.")
        return []
    target.mkdir(parents=True, exist_ok=True)
    _run([*command, "--target", str(target), *missing], directory, environ, kind)
    return [target]


def _plan_with_uv(
    uv: str, words: list[str], directory: Path, environ: Mapping[str, str], kind: str
) -> list[str]:
    command = [uv, "pip", "install", "--dry-run", "--color", "never", "--python", sys.executable]
    output = _run([*command, *words], directory, environ, kind)
    missing = []
    for line in output.splitlines():
        found = _UV_PLAN.match(line)
        if found:
            name, version, source = found.groups()
            missing.append(f"{name} @ {source}" if source else f"{name}=={version}")
    return missing


def _plan_with_pip(
    words: list[str], directory: Path, environ: Mapping[str, str], kind: str
) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-input"]
        _run([*command, "--report", str(report), *words], directory, environ, kind)
        plan = json.loads(report.read_text(encoding="utf-8"))
    missing = []
    for item in plan["install"]:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        url = item["download_info"]["url"]
        missing.append(f"{name} @ {url}" if item.get("is_direct") else f"{name}=={version}")
    return missing


def _run(words: list[str], directory: Path, environ: Mapping[str, str], kind: str) -> str:
    settings = dict(environ)
    # The toolkit's own import path must not be taken for packages that are installed.
    settings.pop("PYTHONPATH", None)
    if words[1:3] == ["pip", "install"]:
        if settings.get("PIP_NO_INDEX", "0").lower() not in ("", "0", "false", "no", "off"):
            words = [*words, "--no-index"]
        for pip_name, uv_name in _PIP_SETTINGS.items():
            if pip_name in settings:
                settings.setdefault(uv_name, settings[pip_name])
    try:
        done = subprocess.run(
            words,
            cwd=directory,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as problem:
        raise RequirementsError(f"{words[0]} did not end in {TIMEOUT_SECONDS} s.") from problem
    if done.returncode:
        log.error("%s", done.stdout)
        raise CommandFailed(words, done.returncode, done.stdout, kind)
    return done.stdout

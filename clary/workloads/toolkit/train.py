"""What an image's `train` command is in script mode: `python -m clary.workloads.toolkit.train`.

configuration ──▶ SM_* ──▶ code to /opt/ml/code ──▶ requirements ──▶ entry point ──▶ exit code
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import sys
import time
import traceback
from pathlib import Path

from clary.workloads.toolkit import (
    entry_point,
    environment,
    failures,
    launchers,
    requirements,
    source_code,
    torchrun,
)
from clary.workloads.toolkit.entry_point import EntryPoint
from clary.workloads.toolkit.environment import Directories, TrainingEnvironment
from clary.workloads.toolkit.failures import UserError

log = logging.getLogger("clary.toolkit")

RESOLVE_SECONDS = 15 * 60
PYTORCH_MODULE = "sagemaker_pytorch_container"


def main(argv: list[str] | None = None) -> int:
    """Run the job's script and return the exit code; leaves output/success or output/failure."""
    output = Directories.from_environ(os.environ).output
    try:
        env = environment.read(os.environ)
        _log_at(env.log_level)
        _run(env)
    except UserError as problem:
        return _fail(output, str(problem), problem.exit_code)
    except Exception as problem:
        text = f"Framework Error: \n{traceback.format_exc()}\n{problem}"
        code = getattr(problem, "errno", None)
        log.exception("The toolkit failed.")
        return _fail(output, text, code if isinstance(code, int) and 0 < code < 256 else 1)
    failures.write_success(output)
    log.info("Reporting training SUCCESS")
    return 0


def _run(env: TrainingEnvironment) -> None:
    if env.framework_module and not _is_played_by_us(env.framework_module):
        module, _, function = env.framework_module.partition(":")
        getattr(importlib.import_module(module), function or "main")()
        return
    launcher = launchers.choose(env)
    code = env.directories.code
    source_code.stage(_code_source(env), code)
    kind = entry_point.kind_of(code, str(env.entry_point or ""))
    packages = _packages(code, kind)
    _wait_for_hosts(env)
    more = environment.variables(env)
    more["CURRENT_HOST"] = env.current_host
    more["SAGEMAKER_JOB_NAME"] = env.sdk_job_name
    more["SAGEMAKER_REGION"] = env.region
    if (env.framework_module or "").startswith(PYTORCH_MODULE):
        more.update(torchrun.gathering(env))
    entry = EntryPoint(
        kind=kind,
        name=str(env.entry_point),
        code=code,
        arguments=env.arguments,
        environment={**os.environ, **more},
        packages=packages,
    )
    launcher(env, entry)


def _is_played_by_us(framework_module: str) -> bool:
    """Say whether this is the name of a public container's own module, whose part we take."""
    package = framework_module.partition(":")[0].partition(".")[0]
    return package.startswith("sagemaker_") and importlib.util.find_spec(package) is None


def _code_source(env: TrainingEnvironment) -> str:
    """Return where the code is: as given, or else in the channel named `code`."""
    if env.module_dir != str(env.directories.code):
        return env.module_dir
    channel = env.directories.input / "data" / "code"
    return str(channel) if channel.is_dir() else env.module_dir


def _packages(code: Path, kind: str) -> list[Path]:
    if kind == "module":
        return requirements.install_package(code, os.environ)
    file = code / "requirements.txt"
    if kind == "script" and file.is_file():
        return requirements.install_file(file, os.environ)
    return []


def _wait_for_hosts(env: TrainingEnvironment) -> None:
    """Wait until the names of all hosts resolve, as they do not at once in a growing cluster."""
    if len(env.hosts) < 2 or os.environ.get("SM_STUDIO_LOCAL_MODE", "").lower() == "true":
        return
    deadline = time.monotonic() + RESOLVE_SECONDS
    pause = 0.1
    for host in env.hosts:
        while True:
            try:
                socket.gethostbyname(host)
                break
            except OSError as problem:
                if time.monotonic() > deadline:
                    raise UserError(f"The host {host} has no address: {problem}") from problem
                time.sleep(pause)
                pause = min(pause * 2, 10.0)


def _fail(output: Path, text: str, code: int) -> int:
    failures.write_failure(output, text)
    log.error("Reporting training FAILURE\n%s", text)
    return code


def _log_at(level: object) -> None:
    number = level if isinstance(level, int) else logging.INFO
    logging.basicConfig(
        level=number, stream=sys.stdout, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )


if __name__ == "__main__":
    sys.exit(main())

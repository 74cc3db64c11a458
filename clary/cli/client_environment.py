"""The variables that make unmodified AWS clients talk to this installation, and their spelling in shells."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from clary.cli.installation import Installation, Keys

# The SDK's own switch: without it each call reports to a host of AWS.
SDK_DEFAULTS = """\
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""
ADMIN_DEFAULTS = Path("/etc/xdg/sagemaker/config.yaml")
USER_DEFAULTS = Path(".config/sagemaker/config.yaml")


def client_environment(
    installation: Installation, keys: Keys, given: Mapping[str, str]
) -> dict[str, str]:
    """Everything a client needs; an empty value asks for the variable to be unset."""
    settings, url = installation.settings, installation.url
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or settings.region
    direct = _no_proxy(url, given)
    bundle = str(installation.home / "authority" / "bundle.pem")
    return {
        "CLARY_HOME": str(installation.home),
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        # Programs differ in which spelling they read first, so both say the same.
        "HTTPS_PROXY": url,
        "https_proxy": url,
        "NO_PROXY": direct,
        "no_proxy": direct,
        "AWS_CA_BUNDLE": bundle,
        **_sdk_defaults(installation, given),
    }


def applied(variables: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """An environment for a child process."""
    joined = {**given, **variables}
    return {name: value for name, value in joined.items() if value or name not in variables}


def in_shell(variables: Mapping[str, str], shell: str) -> list[str]:
    """The lines that a shell evaluates."""
    return [_SPELLINGS[shell](name, value) for name, value in variables.items()]


def shell_of(given: Mapping[str, str]) -> str:
    """The shell that will evaluate our lines: the one the user logs in with."""
    name = Path(given.get("SHELL", "")).name
    if name == "fish":
        return "fish"
    return "powershell" if os.name == "nt" or name == "pwsh" else "bash"


def _in_bash(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}" if value else f"unset {name}"


def _in_fish(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}';" if value else f"set -e {name};"


def _in_powershell(name: str, value: str) -> str:
    escaped = value.replace("'", "''")
    return f"$Env:{name} = '{escaped}'" if value else f"Remove-Item -ErrorAction Ignore Env:{name}"


_SPELLINGS = {"bash": _in_bash, "fish": _in_fish, "powershell": _in_powershell}


def _no_proxy(url: str, given: Mapping[str, str]) -> str:
    host = urlsplit(url).hostname or ""
    known = (given.get("NO_PROXY") or given.get("no_proxy") or "").split(",")
    wanted = ["127.0.0.1", "localhost", "::1", host, *(entry.strip() for entry in known)]
    return ",".join(dict.fromkeys(entry for entry in wanted if entry))


def _sdk_defaults(installation: Installation, given: Mapping[str, str]) -> dict[str, str]:
    """Our file takes the place that is free: the SDK merges the administrator's and the user's."""
    path = installation.home / "sagemaker-defaults.yaml"
    if not path.is_file() or path.read_text() != SDK_DEFAULTS:
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(SDK_DEFAULTS)
        draft.replace(path)
    for variable, standard in (
        ("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", ADMIN_DEFAULTS),
        ("SAGEMAKER_USER_CONFIG_OVERRIDE", Path.home() / USER_DEFAULTS),
    ):
        if given.get(variable) in (None, "", str(path)) and not standard.exists():
            return {variable: str(path)}
    return {}

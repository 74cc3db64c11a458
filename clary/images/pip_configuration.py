"""Where this machine's pip finds packages, said in uv's words: uv does not read pip's settings.

A user who has set up pip for an index or a folder of wheels expects it to hold here too. The
answer is environment variables for uv, not arguments: an index address may hold a password.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SECTIONS = ("global", "install")
# pip's name -> uv's variable and what separates several values in it.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "no-index": ("UV_NO_INDEX", " "),
}
_SET_BY_UV = {
    "UV_DEFAULT_INDEX": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_INDEX": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
}


def variables_for_uv(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """uv's variables that repeat pip's settings; what the user has set for uv itself stays."""
    environment = os.environ if environment is None else environment
    settings = _read_files(_files(environment))
    for name in _VARIABLES:
        value = environment.get("PIP_" + name.replace("-", "_").upper())
        if value:
            settings[name] = value
    found: dict[str, str] = {}
    for name, value in settings.items():
        variable, separator = _VARIABLES[name]
        if any(environment.get(taken) for taken in _SET_BY_UV.get(variable, (variable,))):
            continue
        values = [word for word in value.split() if _exists(word)]
        if name == "no-index":
            values = ["1"] if value.strip().lower() in ("1", "true", "yes", "on") else []
        if values:
            found[variable] = separator.join(values)
    if "UV_INDEX" in found and not environment.get("UV_INDEX_STRATEGY"):
        # pip takes the best version of all indexes; uv by default stops at the first that has any.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def _files(environment: Mapping[str, str]) -> list[Path]:
    """pip's configuration files, the weakest first."""
    home = Path(environment.get("HOME") or Path.home())
    chosen = environment.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    folders = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    personal = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        *(Path(folder) / "pip" / "pip.conf" for folder in folders),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        personal / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
    ]
    return [*files, Path(chosen)] if chosen else files


def _read_files(files: list[Path]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip reports its own broken file; the others still count here
        for section in _SECTIONS:
            if parser.has_section(section):
                settings.update(
                    (name, value) for name, value in parser.items(section) if name in _VARIABLES
                )
    return settings


def _exists(address: str) -> bool:
    """False for a local folder that is not there: pip passes over it, uv would stop."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path)).exists()
    return not address.startswith("/") or Path(address).exists()

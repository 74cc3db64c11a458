"""What a job leaves behind about its end: the failure file, the success file, the exit code."""

from __future__ import annotations

import os
import re
from pathlib import Path

TAIL_BYTES = 64 << 10
MESSAGE_MAX = 700
COMMAND_MAX = 4096
TRACEBACK = "Traceback (most recent call last):"
_MARKS = re.compile(r"\s*[~^]+")
_FRAME = re.compile(r'^\s+File "')


class UserError(Exception):
    """A mistake of the user's that stops the job before its script could run."""

    exit_code = 1


class CommandFailed(UserError):
    """A command ended with an error; the text is what the public toolkit writes."""

    def __init__(
        self, command: list[str], exit_code: int, stderr: str, kind: str = "ExecuteUserScriptError"
    ) -> None:
        self.exit_code = exit_code if 0 < exit_code < 256 else 128 - exit_code
        text = f'{kind}:\nExitCode {exit_code}\nErrorMessage "{error_message(stderr)}"'
        if exit_code in (-9, 137):
            text += '\nExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"'
        text += f'\nCommand "{" ".join(command)[:COMMAND_MAX]}"'
        super().__init__(text)


def error_message(stderr: str) -> str:
    """Return the error first, then the innermost frames: only 1,024 characters will be shown."""
    lines = stderr.replace("\r\n", "\n").rstrip().split("\n")
    at = next((n for n in reversed(range(len(lines))) if TRACEBACK in lines[n]), None)
    if at is None:
        text = "\n".join(line for line in lines[-15:] if line.strip())
        return text[-MESSAGE_MAX:]
    body = lines[at + 1 :]
    end = next((n for n, line in enumerate(body) if line[:1].strip()), len(body))
    error = "\n".join(body[end:]).strip()[:MESSAGE_MAX]
    frames: list[list[str]] = []
    for line in body[:end]:
        if _FRAME.match(line):
            frames.append([line])
        elif frames and not _MARKS.fullmatch(line):
            frames[-1].append(line)
    text = error
    for frame in reversed(frames):
        more = text + "\n" + "\n".join(frame)
        if len(more) > MESSAGE_MAX:
            break
        text = more
    return text


def write_failure(output: Path, text: str) -> None:
    """Write output/failure in one step."""
    _write(output / "failure", text)


def write_success(output: Path) -> None:
    """Write the empty file output/success."""
    _write(output / "success", "")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8", errors="replace")
    part.replace(path)

"""What a job leaves behind about its end: the failure file, the success file, the exit code."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

TAIL_BYTES = 64 << 10
MESSAGE_MAX = 700
COMMAND_MAX = 4096
TRACEBACK = "Traceback (most recent call last):"
_MARKS = re.compile(r"\s*[~^]+")
_FRAME = re.compile(r'^\s+File "')
_RANK = re.compile(r"\[(?P<rank>\d+,\d+)\]<std(?:err|out)>: ?|\[(?P<torch>rank\d+)\]: ")
# What launchers write behind the error of a process: their own log, a box, the next traceback.
_AFTER = re.compile(r"[EWIF]\d{4} \d\d:|-{20,}$|=={20,}$|Traceback ")
_LAUNCHER_FRAME = re.compile(
    r'File "(<frozen runpy>|.*/mpi4py/(run|__main__)\.py|.*/clary/workloads/toolkit/\w+\.py)"'
)
_LAUNCHER_ERRORS = ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError",)


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
        number = 9 if exit_code == 137 else -exit_code
        if number > 0:
            # Whether memory was the reason is known to the control group only, which is asked.
            text += f'\nExtraInfo "Process killed by {_signal_name(number)} (signal {number})"'
        text += f'\nCommand "{" ".join(command)[:COMMAND_MAX]}"'
        super().__init__(text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def error_message(stderr: str) -> str:
    """Return the error first, then the innermost frames: only 1,024 characters will be shown."""
    lines = _of_one_rank(stderr.replace("\r\n", "\n").rstrip().split("\n"))
    found = [_split(lines[n + 1 :]) for n, line in enumerate(lines) if TRACEBACK in line]
    # A launcher that lost a process raises too, after that process has told why.
    own = [one for one in found if not one[1].startswith(_LAUNCHER_ERRORS)]
    if not found:
        text = "\n".join(line for line in lines[-15:] if line.strip())
        return text[-MESSAGE_MAX:]
    frames, error = (own or found)[-1]
    text = error[:MESSAGE_MAX]
    for frame in reversed([one for one in frames if not _LAUNCHER_FRAME.search(one[0])]):
        more = text + "\n" + "\n".join(frame)
        if len(more) > MESSAGE_MAX:
            break
        text = more
    return text


def _of_one_rank(lines: list[str]) -> list[str]:
    """Where mpirun or PyTorch has marked lines with a rank: those of one that raised, unmarked."""
    marked = [(_RANK.match(line), line) for line in lines]
    ranks = [mark[mark.lastgroup or 0] for mark, line in marked if mark and TRACEBACK in line]
    return [
        line[mark.end() :] if mark else line
        for mark, line in marked
        if not ranks or (mark and mark[mark.lastgroup or 0] == ranks[0])
    ]


def _split(body: list[str]) -> tuple[list[list[str]], str]:
    """What follows a traceback's first line, as its frames and its error."""
    end = next((n for n, line in enumerate(body) if line[:1].strip()), len(body))
    last = next((n for n in range(end, len(body)) if _AFTER.match(body[n])), len(body))
    frames: list[list[str]] = []
    for line in body[:end]:
        if _FRAME.match(line):
            frames.append([line])
        elif frames and not _MARKS.fullmatch(line):
            frames[-1].append(line)
    return frames, "\n".join(body[end:last]).strip()


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

"""The ports on which somebody listens in a process's network, as the kernel lists them."""

from __future__ import annotations

_LISTENING = "0A"


def ports(process: int) -> set[int]:
    """Empty where there is no such process, or no such list."""
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{process}/net/{name}", encoding="ascii") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 3 and words[3] == _LISTENING:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def why_unwell(process: int, port: int, *, own: bool, ours: frozenset[int] = frozenset()) -> str:
    """A sentence about a server that never became well; `own` means that the network is its alone."""
    heard = ports(process)
    if port in heard:
        return f"A server listened on port {port}, but GET /ping was not answered with status 200."
    text = f"Nothing listened on port {port}."
    others = sorted(heard - ours)
    if own and others:
        listed = ", ".join(map(str, others[:5]))
        text += (
            f" The program listened on {listed}: a server must listen on the port that"
            " SAGEMAKER_BIND_TO_PORT names, 8080 if it is not set."
        )
    return text

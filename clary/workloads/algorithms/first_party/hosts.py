"""The hosts of a job as one group: sums and collections of arrays, over TCP through the first.

    algo-2 ──┐  array            every host calls the same operations in the same order;
    algo-3 ──┼──▶ algo-1         the first adds in the order of the hosts, so that all of them
    algo-4 ◀─┘  sum of all       see the same bits and take the same decisions

A message is a header of four numbers (sequence, kind, dimensions, bytes), the shape, the data.
"""

from __future__ import annotations

import socket
import struct
import time
import zlib
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from clary.workloads.algorithms.errors import AlgorithmError
from clary.workloads.algorithms.job import Job

MEETING_SECONDS_MAX = 900.0
MESSAGE_SECONDS_MAX = 3600.0
MESSAGE_BYTES_MAX = 8 << 30
DIMENSIONS_MAX = 4
_HEADER = struct.Struct("<QIIQ")
_KINDS = ("<f4", "<f8", "<i8")
_PORT_FIRST, _PORTS = 24000, 4000
_RETRY_SECONDS = 0.05


class Group:
    """All hosts of one job; a job with a single host needs no network."""

    def __init__(self, job: Job) -> None:
        self.hosts, self.rank = job.hosts, job.hosts.index(job.host)
        self.size = len(job.hosts)
        self._sequence = 0
        self._listener: socket.socket | None = None
        self._peers: list[socket.socket] = []  # of the first host: one for each other, in order
        if self.size > 1:
            name = job.environment.get("TRAINING_JOB_NAME") or "-".join(job.hosts)
            self._meet(_PORT_FIRST + zlib.crc32(name.encode()) % _PORTS)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum of the arrays of all hosts, on all hosts."""
        if self.size == 1:
            return array
        parts = self.collect(array)
        if self.is_first:
            total = parts[0].copy()
            for part in parts[1:]:
                if part.shape != total.shape:
                    raise AlgorithmError("The hosts disagree on the shape of their data.")
                total += part
            return self.spread(total)
        return self.spread(None)

    def sum_of(self, number: float) -> float:
        return float(self.sum(np.array([number], dtype=np.float64))[0])

    def largest(self, number: int) -> int:
        """The largest of the hosts' numbers, on all hosts."""
        parts = self.collect(np.array([number], dtype=np.int64))
        top = np.array([max(int(part[0]) for part in parts)], dtype=np.int64) if parts else None
        return int(self.spread(top)[0])

    def collect(self, array: np.ndarray) -> list[np.ndarray]:
        """The arrays of all hosts in their order on the first; an empty list on the others."""
        self._sequence += 1
        if not self.is_first:
            self._send(self._peers[0], array)
            return []
        return [array, *(self._receive(peer) for peer in self._peers)]

    def spread(self, array: np.ndarray | None) -> np.ndarray:
        """The first host's array, on all hosts; the others pass None."""
        self._sequence += 1
        if not self.is_first:
            return self._receive(self._peers[0])
        assert array is not None
        for peer in self._peers:
            self._send(peer, array)
        return array

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing is what tells the others of a failure here: their next message fails.
        for one in (*self._peers, *([self._listener] if self._listener else [])):
            one.close()

    # -- the network ------------------------------------------------------------------------------

    def _meet(self, port: int) -> None:
        deadline = time.monotonic() + MEETING_SECONDS_MAX
        if not self.is_first:
            self._peers = [self._connect(port, deadline)]
            return
        self._listener = socket.create_server((self.hosts[0], port), backlog=self.size)
        found: dict[int, socket.socket] = {}
        while len(found) < self.size - 1:
            self._listener.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                peer, _ = self._listener.accept()
            except OSError as problem:
                raise AlgorithmError("Not all hosts came to the training in time.") from problem
            self._prepare(peer)
            rank = struct.unpack("<I", _exactly(peer, 4))[0]
            if not 0 < rank < self.size or rank in found:
                peer.close()
                continue
            found[rank] = peer
        self._peers = [found[rank] for rank in sorted(found)]

    def _connect(self, port: int, deadline: float) -> socket.socket:
        while True:
            try:
                peer = socket.create_connection((self.hosts[0], port), timeout=10)
                break
            except OSError as problem:
                if time.monotonic() > deadline:
                    text = f"The first host ({self.hosts[0]}) did not come to the training."
                    raise AlgorithmError(text) from problem
                time.sleep(_RETRY_SECONDS)
        self._prepare(peer)
        peer.sendall(struct.pack("<I", self.rank))
        return peer

    @staticmethod
    def _prepare(peer: socket.socket) -> None:
        peer.settimeout(MESSAGE_SECONDS_MAX)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _send(self, peer: socket.socket, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array)
        kind = _KINDS.index(data.dtype.str)
        head = _HEADER.pack(self._sequence, kind, data.ndim, data.nbytes)
        try:
            peer.sendall(head + struct.pack(f"<{data.ndim}Q", *data.shape))
            peer.sendall(memoryview(data.reshape(-1)).cast("B") if data.size else b"")
        except OSError as problem:
            raise self._lost() from problem

    def _receive(self, peer: socket.socket) -> np.ndarray:
        sequence, kind, dimensions, size = _HEADER.unpack(self._read(peer, _HEADER.size))
        if dimensions > DIMENSIONS_MAX or kind >= len(_KINDS) or size > MESSAGE_BYTES_MAX:
            raise AlgorithmError("Another host sent a message that cannot be read.")
        shape: Sequence[int] = struct.unpack(f"<{dimensions}Q", self._read(peer, 8 * dimensions))
        array = np.frombuffer(bytearray(self._read(peer, size)), dtype=_KINDS[kind])
        if sequence != self._sequence:
            raise AlgorithmError("The hosts do not take the same steps.")
        return array.reshape(shape)

    def _read(self, peer: socket.socket, size: int) -> bytes | bytearray:
        try:
            return _exactly(peer, size)
        except OSError as problem:
            raise self._lost() from problem

    @staticmethod
    def _lost() -> AlgorithmError:
        return AlgorithmError("Another host of the training job has failed.")


def _exactly(peer: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        count = peer.recv_into(view[at:])
        if not count:
            raise ConnectionError("the connection ended")
        at += count
    return data

"""A relay passes bytes both ways, whole and in order, holds few of them, and ends with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clary.runner import relay, sockets
from tests.executors.executor_contract import is_alive, wait_for

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
PIECE = 1 << 16


class Server:
    """Gives each connection to a function, in a thread of its own."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._run, args=(connection,)))
            self._threads[-1].start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            self._serve(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[Callable[[Callable[[socket.socket], object]], str]]:
    """The path of a Unix socket that is relayed to a server of the test's."""
    servers: list[Server] = []
    processes: list[int] = []

    def begin(serve: Callable[[socket.socket], object]) -> str:
        servers.append(Server(serve))
        path = str(tmp_path / "relayed.sock")
        connect = relay.to_port("127.0.0.1", servers[-1].port)
        processes.append(relay.start(lambda: sockets.listen(path, 512), connect))
        wait_for(lambda: os.path.exists(path), "the relay")  # noqa: PTH110
        return path

    yield begin
    for process in processes:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    for server in servers:
        server.close()


def echo(connection: socket.socket) -> None:
    while piece := connection.recv(PIECE):
        connection.sendall(piece)


def received(connection: socket.socket) -> bytes:
    pieces: list[bytes] = []
    while piece := connection.recv(PIECE):
        pieces.append(piece)
    return b"".join(pieces)


def test_many_connections_at_once_get_their_own_bytes_back(
    relayed: Callable[..., str],
) -> None:
    path = relayed(echo)
    clients = [sockets.connect(path, 20.0) for _ in range(200)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.sendall(b"%d of %d." % (turn, number))
        for number, client in enumerate(clients):
            assert client.recv(100) == b"%d of %d." % (turn, number)
    for client in clients:
        client.close()


def test_a_client_that_has_said_all_still_hears_the_whole_answer(
    relayed: Callable[..., str],
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"%d;" % len(received(connection)) * 100_000)

    with sockets.connect(relayed(answer), 20.0) as client:
        client.sendall(b"x" * 3_000_000)
        client.shutdown(socket.SHUT_WR)
        assert received(client) == b"3000000;" * 100_000


def test_a_reader_that_is_slow_holds_the_writer_back(relayed: Callable[..., str]) -> None:
    sent: list[int] = []

    def pour(connection: socket.socket) -> None:
        for _ in range(64):
            connection.sendall(b"y" * (1 << 20))
            sent.append(1)

    with sockets.connect(relayed(pour), 20.0) as client:
        assert client.recv(1) == b"y"
        wait_for(lambda: len(sent) > 0, "the first piece")
        assert len(sent) < 32  # what the kernel buffers, not what the relay holds
        assert len(received(client)) == 64 * (1 << 20) - 1


def test_a_connection_to_nobody_is_closed_without_a_word(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody.sock")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = relay.start(lambda: sockets.listen(path, 8), relay.to_port("127.0.0.1", port))
    try:
        wait_for(lambda: os.path.exists(path), "the relay")  # noqa: PTH110
        for _ in range(3):
            with sockets.connect(path, 20.0) as client:
                assert client.recv(10) == b""
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_relay_ends_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    code = f"""
import time
from clary.runner import relay, sockets
print(relay.start(lambda: sockets.listen({str(tmp_path / "s")!r}, 8), relay.to_port("127.0.0.1", 9)))
import sys; sys.stdout.flush(); time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        assert is_alive(process)
        parent.kill()
    wait_for(lambda: not is_alive(process), "the end of the relay")

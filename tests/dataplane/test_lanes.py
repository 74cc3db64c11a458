"""Exchanges with model servers that pipeline, that do not, and that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from pathlib import Path

import pytest

from clary.dataplane.lanes import Lanes
from clary.dataplane.upstream import (
    AnswerOverdue,
    CannotConnect,
    ConnectionLost,
    NotBegun,
    PoolBusy,
)

REQUEST = re.compile(rb"POST (\S+) HTTP/1\.1\r\ncontent-length: (\d+)\r\n\r\n")


class Asked:
    """An asker that remembers what it was told."""

    def __init__(self):
        self.told = asyncio.get_running_loop().create_future()

    def answered(self, head, body):
        self.told.set_result((head.status, body))

    def failed(self, problem):
        self.told.set_result(problem)


class Server:
    """Takes requests off a connection and answers as `behave(connection, number, path, body)` does."""

    def __init__(self, behave):
        self.behave = behave
        self.connections = 0
        self.reads = []
        self.writers = []

    async def serve(self, reader, writer):
        number = self.connections
        self.connections += 1
        self.writers.append(writer)
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 20):
                self.reads.append(len(piece))
                data += piece
                while found := REQUEST.match(data):
                    end = found.end() + int(found[2])
                    if len(data) < end:
                        break
                    body, data = data[found.end() : end], data[end:]
                    answer = await self.behave(number, found[1], body)
                    if answer is None:
                        break
                    writer.write(answer)
        writer.close()


def run(scenario, behave, kind=Server, **options):
    """Run a scenario against a server on a Unix socket."""

    async def main():
        with tempfile.TemporaryDirectory(prefix="clary-") as folder:
            path = Path(folder) / "s"
            server = kind(behave)
            listening = await asyncio.start_unix_server(server.serve, str(path))
            lanes = Lanes(path, **{"lanes_max": 2, "depth": 16, "body_bytes_max": 1000, **options})
            try:
                async with asyncio.timeout(20):
                    await scenario(lanes, server)
                assert lanes.outstanding == 0
            finally:
                lanes.close()
                listening.close()
                for writer in server.writers:
                    writer.close()
                await asyncio.sleep(0)

    asyncio.run(main())


def ask(lanes, body=b"x", path=b"/", seconds=5.0):
    asked = Asked()
    head = b"POST %b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (path, len(body))
    lanes.submit(asked, [head, body], seconds)
    return asked.told


def ok(body):
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def echo(number, path, body):
    return ok(body)


def test_requests_of_one_turn_reach_a_pipelining_server_in_one_piece():
    async def scenario(lanes, server):
        await ask(lanes)
        server.reads.clear()
        answers = await asyncio.gather(*[ask(lanes, b"%02d" % number) for number in range(16)])
        assert answers == [(200, b"%02d" % number) for number in range(16)]
        assert len(server.reads) == 1

    run(scenario, echo, lanes_max=1)


def test_a_server_that_does_not_pipeline_gets_one_request_at_a_time():
    busy = set()

    async def one_at_a_time(number, path, body):
        assert number not in busy
        busy.add(number)
        await asyncio.sleep(0.01)
        busy.remove(number)
        return ok(body)

    async def scenario(lanes, server):
        answers = await asyncio.gather(*[ask(lanes, b"%02d" % number) for number in range(12)])
        assert answers == [(200, b"%02d" % number) for number in range(12)]
        assert server.connections == 3

    run(scenario, one_at_a_time, lanes_max=3, depth=1)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_answers_in_pieces_are_put_together(size):
    async def scenario(lanes, server):
        told = [ask(lanes, b"a" * 900), ask(lanes, b"b")]
        while not server.writers:
            await asyncio.sleep(0.001)
        assert await told[0] == (200, b"a" * 900)
        assert await told[1] == (200, b"b")

    class Cutting(Server):
        async def serve(self, reader, writer):
            real = writer.write

            def write(data):
                for at in range(0, len(data), size):
                    real(data[at : at + size])

            writer.write = write
            await super().serve(reader, writer)

    run(scenario, echo, Cutting)


def test_an_answer_in_chunks_and_one_that_ends_with_the_connection_are_read():
    async def odd(number, path, body):
        if path == b"/chunked":
            return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        return ok(body)

    async def scenario(lanes, server):
        assert await ask(lanes, path=b"/chunked") == (200, b"abcde")
        assert await ask(lanes, b"again") == (200, b"again")
        assert server.connections == 1

    run(scenario, odd, depth=1)

    class Closing(Server):
        async def serve(self, reader, writer):
            await reader.read(1000)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            writer.close()

    async def until_end(lanes, server):
        assert await ask(lanes) == (200, b"until the end")

    run(until_end, odd, Closing, depth=1)


IN_CHUNKS = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"3;why=so\r\nabc\r\n2\r\nde\r\n0\r\nx-more: 1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_answers_in_chunks_among_pipelined_ones_are_put_together(size):
    async def scenario(lanes, server):
        paths = (b"/plain", b"/chunked", b"/plain", b"/chunked", b"/plain")
        answers = await asyncio.gather(*[ask(lanes, path=path) for path in paths])
        assert answers == [(200, b"abcde" if path == b"/chunked" else b"x") for path in paths]
        assert server.connections == 1

    async def some(number, path, body):
        return IN_CHUNKS if path == b"/chunked" else ok(body)

    class Cutting(Server):
        async def serve(self, reader, writer):
            real = writer.write

            def write(data):
                for at in range(0, len(data), size):
                    real(data[at : at + size])

            writer.write = write
            await super().serve(reader, writer)

    run(scenario, some, Cutting, lanes_max=1)


def test_an_answer_in_chunks_that_is_too_long_is_not_passed_on():
    async def long(number, path, body):
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        return head + b"258\r\n" + b"x" * 600 + b"\r\n" + b"258\r\n" + b"x" * 600 + b"\r\n"

    async def scenario(lanes, server):
        assert await ask(lanes) == (200, None)

    run(scenario, long)


def test_an_answer_that_is_too_long_spares_those_behind_it():
    async def long_first(number, path, body):
        return ok(b"x" * 5000) if body == b"long" else ok(body)

    async def scenario(lanes, server):
        answers = await asyncio.gather(ask(lanes, b"long"), ask(lanes, b"next"))
        assert answers == [(200, None), (200, b"next")]

    run(scenario, long_first)


def test_an_overdue_answer_fails_alone_and_its_bytes_are_thrown_away():
    release = asyncio.Event()

    async def slow_first(number, path, body):
        if body == b"slow":
            await release.wait()
        return ok(body)

    async def scenario(lanes, server):
        slow = ask(lanes, b"slow", seconds=0.05)
        behind = ask(lanes, b"behind", seconds=10)
        assert isinstance(await slow, AnswerOverdue)
        release.set()
        assert await behind == (200, b"behind")
        assert server.connections == 1

    run(scenario, slow_first, lanes_max=1)


def test_a_lane_on_which_nobody_waits_any_more_is_dropped():
    async def never(number, path, body):
        await asyncio.sleep(0.5 if number == 0 else 0)
        return ok(body)

    async def scenario(lanes, server):
        assert isinstance(await ask(lanes, seconds=0.05), AnswerOverdue)
        assert await ask(lanes, b"fresh") == (200, b"fresh")
        assert server.connections == 2

    run(scenario, never, lanes_max=1)


def test_a_server_that_dies_fails_what_was_asked_and_nothing_else():
    async def scenario(lanes, server):
        assert await ask(lanes) == (200, b"x")
        first, second = await asyncio.gather(ask(lanes, b"die"), ask(lanes, b"too"))
        assert type(first) is ConnectionLost  # it may have done what it was asked
        assert type(second) is NotBegun
        assert await ask(lanes, b"after") == (200, b"after")

    async def die(number, path, body):
        if body == b"die":
            raise ConnectionAbortedError
        return ok(body)

    run(scenario, die, lanes_max=1)


def test_what_was_sent_behind_a_last_answer_may_be_sent_again():
    async def last(number, path, body):
        if number == 0:
            return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n1"
        return ok(body)

    async def scenario(lanes, server):
        first, second = await asyncio.gather(ask(lanes, b"1"), ask(lanes, b"2"))
        assert first == (200, b"1")
        assert isinstance(second, CannotConnect)

    run(scenario, last, lanes_max=1)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_an_answer_that_is_not_plain_http_ends_the_lane(answer):
    async def broken(number, path, body):
        return answer

    async def scenario(lanes, server):
        assert isinstance(await ask(lanes), ConnectionLost)

    run(scenario, broken)


def test_interim_answers_and_answers_without_a_body_are_understood():
    async def interim(number, path, body):
        return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"

    async def scenario(lanes, server):
        answers = await asyncio.gather(ask(lanes), ask(lanes))
        assert answers == [(204, b""), (204, b"")]

    run(scenario, interim)


def test_a_server_that_is_not_there_cannot_be_connected():
    async def main():
        lanes = Lanes(Path("/nonexistent/socket"), lanes_max=2, body_bytes_max=10)
        told = await asyncio.gather(*[ask(lanes) for _ in range(5)])
        assert all(isinstance(one, CannotConnect) for one in told)
        assert lanes.outstanding == 0
        lanes.close()

    asyncio.run(main())


def test_too_many_waiting_requests_are_refused():
    async def scenario(lanes, server):
        told = [ask(lanes) for _ in range(3)]
        with pytest.raises(PoolBusy):
            ask(lanes)
        await asyncio.gather(*told)

    run(scenario, echo, lanes_max=1, depth=1, waiting_max=3)


def test_idle_lanes_are_closed_after_a_while():
    async def scenario(lanes, server):
        await ask(lanes)
        await asyncio.sleep(0.4)
        assert await ask(lanes, b"again") == (200, b"again")
        assert server.connections == 2

    run(scenario, echo, idle_seconds=0.1)


class HangingUp(Server):
    """Closes every connection as soon as it has accepted it."""

    async def serve(self, reader, writer):
        self.connections += 1
        writer.transport.abort()


def test_a_server_that_hangs_up_at_once_leaves_nobody_waiting():
    async def scenario(lanes, server):
        for _ in range(5):
            told = await asyncio.gather(*(ask(lanes) for _ in range(20)))
            assert {type(one) for one in told} <= {CannotConnect, ConnectionLost, NotBegun}

    run(scenario, None, HangingUp)

"""The server as a process: loading, serving, ending."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from clary.workloads.serving import server

from .conftest import DEADLINE, parse, read_all

POST = b"POST /invocations HTTP/1.1\r\nHost: x\r\n"


def test_a_loaded_server_answers_its_three_paths_and_no_other(start) -> None:
    server = start()
    assert server.ask(b"hello") == (200, "text/plain", b"hello")
    assert server.status("/ping") == 200
    assert server.status("/ping?x=1") == 200
    answer = server.send(b"GET /execution-parameters HTTP/1.0\r\n\r\n")
    assert parse(answer) == (200, "application/json", b'{"BatchStrategy": "MULTI_RECORD"}')
    assert server.status("/other") == 404
    assert server.status("/invocations") == 405
    assert server.status("/ping", "DELETE") == 405


def test_content_type_accept_and_headers_reach_the_handler(start) -> None:
    server = start()
    answer = server.ask(b"headers", "text/csv; charset=utf-8", "application/json", "X-Who: me\r\n")
    assert answer[2] == b"text/csv; charset=utf-8|application/json|me"


def test_the_default_accept_of_the_environment_stands_in_for_any(start) -> None:
    server = start(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    assert server.ask(b"headers", "a/b")[2] == b"a/b|text/csv|None"


def test_ping_says_503_until_the_model_is_loaded(start, tmp_path: Path) -> None:
    server = start("Slow", ready=False)
    server.wait(503)
    assert server.ask(b"x")[0] == 503
    (tmp_path / "model" / "ready").touch()
    server.wait(200)
    assert server.ask(b"x") == (200, "text/plain", b"x")


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_traceback(start) -> None:
    server = start("broken", ready=False)
    assert server.process.wait(DEADLINE) == 1
    log = server.log.read_text()
    assert "Traceback" in log and "RuntimeError: no model in " in log
    assert not Path(server.path).exists()


def test_an_error_of_the_model_is_500_with_its_type_and_the_server_lives_on(start) -> None:
    server = start()
    assert server.ask(b"raise") == (500, "text/plain", b"ValueError: bad row")
    assert server.ask(b"exit") == (500, "text/plain", b"SystemExit: 3")
    assert server.ask(b"fine")[0] == 200
    assert "Traceback" in server.log.read_text()


def test_sigterm_finishes_the_request_in_flight(start) -> None:
    server = start()
    with server.connect() as busy, server.connect() as idle:
        busy.sendall(POST + b"Content-Length: 5\r\n\r\nsleep")
        server.wait_until_entered()
        server.process.send_signal(signal.SIGTERM)
        assert parse(read_all(busy)) == (200, "text/plain", b"sleep")
        assert read_all(idle) == b""
    assert server.process.wait(DEADLINE) == 0


def test_workers_share_the_socket_and_a_dead_one_is_replaced(start) -> None:
    server = start(SAGEMAKER_MODEL_SERVER_WORKERS="2")
    found = _pids(server, 2)
    assert server.process.pid not in found
    victim = found.pop()
    os.kill(victim, signal.SIGKILL)
    assert victim not in _pids(server, 2, without=victim)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE) == 0
    for pid in found:
        assert not Path(f"/proc/{pid}").exists()


def test_tcp_is_served_where_no_socket_is_named(start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start(ready=False, CLARY_SERVE_SOCKET="", SAGEMAKER_BIND_TO_PORT=str(port))
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), DEADLINE) as client:
                client.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
                data = read_all(client)
            if data and parse(data)[0] == 200:
                return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(server.log.read_text())


def test_a_socket_path_beyond_the_kernels_limit_is_served(start, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    server = start(ready=False, CLARY_SERVE_SOCKET=str(folder / "serve.sock"))
    handle = os.open(folder, os.O_RDONLY)
    try:
        server.path = f"/proc/self/fd/{handle}/serve.sock"
        server.wait(200)
        assert server.ask(b"far")[2] == b"far"
    finally:
        os.close(handle)


def test_a_setting_that_is_no_number_stops_the_server_with_its_name(start) -> None:
    server = start(ready=False, SAGEMAKER_MODEL_SERVER_WORKERS="many")
    assert server.process.wait(DEADLINE) == 1
    assert "SAGEMAKER_MODEL_SERVER_WORKERS must be a whole number" in server.log.read_text()


def _pids(server, count: int, without: int = 0) -> set[int]:
    """Ask until so many different processes have answered."""
    seen: set[int] = set()
    end = time.monotonic() + DEADLINE
    while len(seen) < count and time.monotonic() < end:
        try:
            pids = [server.ask(b"pid") for _ in range(8)]
        except OSError:
            continue
        seen |= {int(body) for status, _, body in pids if status == 200 and int(body) != without}
        # A process that is busy leaves the next connection to the other.
        with server.connect() as busy:
            busy.sendall(POST + b"Content-Length: 5\r\n\r\nsleep")
            seen |= {int(server.ask(b"pid")[2]) for _ in range(4)} - {without}
    return seen


def test_a_request_that_takes_too_long_is_500_and_its_process_is_replaced(start) -> None:
    server = start("Hanging", SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="1")
    with server.connect() as hanging, server.connect() as behind:
        hanging.sendall(POST + b"Content-Length: 4\r\n\r\nhang")
        server.wait_until_entered()
        behind.sendall(POST + b"Content-Length: 2\r\n\r\nok")
        status, _, body = parse(read_all(hanging))
        assert (status, body) == (500, b"The model did not answer within 1 seconds.")
        assert parse(read_all(behind))[0] in (500, 503)
    assert server.ask(b"ok") == (200, "text/plain", b"ok")
    assert "its process is replaced" in server.log.read_text()


def test_code_that_blocks_the_whole_interpreter_ends_with_its_process(start) -> None:
    server = start("Hanging", SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="1")
    with server.connect() as blocked:
        blocked.sendall(POST + b"Content-Length: 5\r\n\r\nblock")
        try:
            assert read_all(blocked) == b""
        except ConnectionResetError:
            assert "Timeout" in server.log.read_text()
    assert server.ask(b"ok")[0] == 200


def test_clients_of_a_worker_that_crashes_are_closed_and_the_next_are_served(start) -> None:
    server = start("Hanging", SAGEMAKER_MODEL_SERVER_WORKERS="2")
    with server.connect() as unlucky:
        unlucky.sendall(POST + b"Content-Length: 5\r\n\r\ncrash")
        try:
            assert read_all(unlucky) == b""
        except ConnectionResetError:
            assert "was killed by SIGSEGV" in server.log.read_text()
    for _ in range(8):
        assert server.ask(b"ok")[0] == 200


def test_a_model_that_forks_answers_once_and_its_children_hold_no_connection(start) -> None:
    server = start("Hanging")
    for body in (b"fork", b"child", b"print"):
        # `ask` reads until the server closes: a child that kept the socket would hold it open.
        assert server.ask(body) == (200, "text/plain", body)
    assert server.ask(b"ok") == (200, "text/plain", b"ok")


def test_a_client_that_leaves_does_not_cost_another_its_answer(start) -> None:
    server = start("Hanging")
    with server.connect() as patient:
        with server.connect() as gone:
            gone.sendall(POST + b"Content-Length: 5\r\n\r\nsleep")
            server.wait_until_entered()
        patient.sendall(POST + b"Content-Length: 2\r\nConnection: close\r\n\r\nok")
        assert parse(read_all(patient)) == (200, "text/plain", b"ok")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE) == 0
    assert "IndexError" not in server.log.read_text()


def test_whoever_comes_while_the_only_process_is_replaced_waits_for_the_next(start) -> None:
    server = start("Hanging")
    pids = [server.ask(b"pid")[2]]
    started = int(server.ask(b"start")[2])
    for number in range(3):
        with server.connect() as unlucky:
            unlucky.sendall(POST + b"Content-Length: 5\r\n\r\ncrash")
            try:
                assert read_all(unlucky) == b""
            except ConnectionResetError:
                assert "was killed by SIGSEGV" in server.log.read_text()
        pids.append(server.ask(b"pid")[2])
        assert server.log.read_text().count("The model is loaded") == number + 2
    assert len(set(pids)) == 4
    assert server.process.poll() is None
    # What the dead process had started must not be there twice.
    assert not Path(f"/proc/{started}").exists()


def test_what_a_model_prints_is_in_the_log_at_once(start) -> None:
    server = start("Hanging")
    server.ask(b"print")
    assert "b'\\xff'\n" in server.log.read_bytes().decode("latin-1")


def test_a_stop_is_heard_in_the_middle_of_replacing_workers(start) -> None:
    server = start("Hanging", SAGEMAKER_MODEL_SERVER_WORKERS="2")
    for _ in range(3):
        try:
            server.ask(b"crash")
        except (ConnectionResetError, IndexError):
            continue
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE) == 0


def test_a_server_that_forks_loads_its_model_with_one_thread(monkeypatch) -> None:
    for name in server.THREAD_SETTINGS:
        monkeypatch.setenv(name, "4")
    limits: list[int] = []
    monkeypatch.setattr(server, "_limit_threads", limits.append)
    asked = server._one_thread_each(forks=False)
    assert (os.environ["OMP_NUM_THREADS"], limits) == ("4", [])
    asked = server._one_thread_each(forks=True)
    assert (os.environ["OMP_NUM_THREADS"], limits) == ("1", [1])
    server._set_threads(asked)
    assert (os.environ["OMP_NUM_THREADS"], limits) == ("4", [1, 4])
    monkeypatch.delenv("OMP_NUM_THREADS")
    server._set_threads(server._one_thread_each(forks=True))
    assert (os.environ["OMP_NUM_THREADS"], limits) == ("1", [1, 4, 1])

"""Runs modules in forks of one process that has imported the libraries; for tests that need many.

A request is one JSON line on a Unix socket, with the descriptors for standard input and output;
the answers are the process id and, at the end, the exit code.
"""

from __future__ import annotations

import array
import json
import os
import runpy
import socket
import sys
import traceback


def run(request: dict, descriptors: list[int]) -> None:
    """In the child: become the program."""
    os.dup2(descriptors[0], 0)
    os.dup2(descriptors[1], 1)
    os.dup2(descriptors[1], 2)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["argv"]
    code = 0
    try:
        if request["is_module"]:
            runpy.run_module(request["argv"][0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(request["argv"][0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the child must end here, whatever the program raised
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve_one(connection: socket.socket) -> None:
    """In a child for each request: start the program, wait for it, tell how it ended."""
    message, control, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(8))
    descriptors = array.array("i")
    descriptors.frombytes(control[0][2][:8])
    child = os.fork()
    if child == 0:
        connection.close()
        run(json.loads(message), list(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def main(path: str, modules: list[str]) -> None:
    for module in modules:
        __import__(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            if os.fork() == 0:  # not a child of the listener, which waits for nobody
                serve_one(connection)
            os._exit(0)
        os.wait()
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

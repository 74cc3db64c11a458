"""A Docker engine of the tests' own, and an image that is made of Busybox alone."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from clary.runner.engine_api import Engine, EngineError, read_all

IMAGE = "clary-test/own:1"
ENTRY = """#!/bin/sh
# The whole of an image of somebody's own: `train`, `serve`, or what processing names.
if [ "$1" = serve ]; then
  trap 'exit 0' TERM
  nc -ll -p 8080 -e /bin/answer &
  wait
fi
if [ "$1" != train ]; then exec "$@"; fi
echo "argument $1 on $(hostname)"
cd /opt/ml
exec sh -c "$(cat input/data/train/code.sh)"
"""
ANSWER = """#!/bin/sh
read -r method path version
length=0
while read -r name value; do
  name=$(echo "$name" | tr 'A-Z' 'a-z'); value=${value%?}
  [ -n "$name" ] && [ "$name" != "$(printf '\\r')" ] || break
  [ "$name" = content-length: ] && length=$value
done
body=$(dd bs=1 count=$length 2>/dev/null)
[ "$body" = door ] && body=$(ask-credentials)
said="$path $body $(cat /opt/ml/model/weights)"
printf 'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n%s' ${#said} "$said"
"""
ASK_CREDENTIALS = """#!/bin/sh
# As every AWS SDK does, with what its environment says.
wget -qO- --header "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN" \\
  "$AWS_CONTAINER_CREDENTIALS_FULL_URI" | grep -o '"[A-Za-z]*Id"'
"""
_APPLETS = "cat dd echo false grep hostname id ip ls mkdir nc nslookup printf rm sed sh sleep tail tr true wget"


def why_not() -> str:
    """Why no engine can be started here; empty where one can."""
    if shutil.which("dockerd") is None:
        return "needs dockerd (apt-get install docker.io)"
    if os.geteuid() != 0:
        return "dockerd needs root"
    return (
        "" if shutil.which("busybox") else "needs a static busybox (apt-get install busybox-static)"
    )


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """dockerd with folders, a socket and no bridge of its own; gone with all of it when the context ends."""
    with tempfile.TemporaryDirectory(prefix="clary-engine-", dir="/tmp") as name:
        place = Path(name)
        sock = place / "docker.sock"
        argv = ["dockerd", "--data-root", str(place / "data"), "--exec-root", str(place / "exec")]
        argv += ["--pidfile", str(place / "pid"), "-H", f"unix://{sock}", "--bridge=none"]
        argv += ["--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]
        with open(place / "log", "wb") as log:
            daemon = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        try:
            engine = Engine(str(sock))
            deadline = time.monotonic() + 60
            while True:
                try:
                    engine.call("GET", "/info")
                    break
                except EngineError as problem:
                    told = (place / "log").read_text()[-2000:]
                    assert daemon.poll() is None and time.monotonic() < deadline, (problem, told)
                    time.sleep(0.05)
            yield engine
        finally:
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            _unmount_below(place)


def _unmount_below(place: Path) -> None:
    """The engine leaves the file by which it keeps its host network mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        targets = [line.split()[1] for line in file]
    for target in sorted(targets, reverse=True):
        if target.startswith(f"{place}/"):
            subprocess.run(["umount", "--lazy", target], check=True)


def build(engine: Engine, name: str) -> None:
    """Import a root file system of one program as an image whose entry point is a script."""
    query = {"fromSrc": "-", "repo": name, "changes": 'ENTRYPOINT ["/bin/entry"]'}
    headers = {"Content-Type": "application/x-tar"}
    answer = engine.open(
        "POST", "/images/create", _root_file_system(), query=query, headers=headers
    )
    with answer.connection:
        assert b"error" not in read_all(answer)


def _root_file_system() -> bytes:
    busybox = shutil.which("busybox")
    assert busybox is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev", "opt"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            packed.addfile(member)
        files = {"busybox": Path(busybox).read_bytes(), "entry": ENTRY.encode()}
        files.update({"answer": ANSWER.encode(), "ask-credentials": ASK_CREDENTIALS.encode()})
        for name, data in files.items():
            member = tarfile.TarInfo(f"bin/{name}")
            member.size, member.mode = len(data), 0o755
            packed.addfile(member, io.BytesIO(data))
        for name in _APPLETS.split():
            member = tarfile.TarInfo(f"bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            packed.addfile(member)
    return buffer.getvalue()


def save(engine: Engine, name: str) -> bytes:
    """The image as `docker save` writes it."""
    answer = engine.open("GET", f"/images/{quote(name)}/get")
    with answer.connection:
        return read_all(answer)


def as_oci_archive(saved: bytes) -> bytes:
    """The same image as `skopeo copy docker-archive:... oci-archive:...` lays it out."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image"
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:

        def read(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (entry,) = json.loads(read("manifest.json"))
        layers = [gzip.compress(read(name), 1) for name in entry["Layers"]]
        manifest = {
            "schemaVersion": 2,
            "config": blob(read(entry["Config"]), f"{kind}.config.v1+json"),
            "layers": [blob(layer, f"{kind}.layer.v1.tar+gzip") for layer in layers],
        }
    listed = [blob(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")]
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', **blobs}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            packed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@contextlib.contextmanager
def registry_of(oci_archive: bytes, login: str) -> Iterator[str]:
    """A registry of one image under any name, for whoever knows the login; yields its address."""
    with tarfile.open(fileobj=io.BytesIO(oci_archive)) as tar:
        blobs = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    manifest = json.loads(blobs["index.json"])["manifests"][0]
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            *_, kind, name = self.path.split("/")
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self._end(b"")
                return
            self.send_response(200)
            body, media = b"{}", "application/json"
            if kind == "manifests":
                name, media = manifest["digest"], manifest["mediaType"]
                self.send_header("Docker-Content-Digest", name)
            if kind in ("manifests", "blobs"):
                body = blobs["blobs/" + name.replace(":", "/")]
            self.send_header("Content-Type", media)
            self._end(body)

        do_HEAD = do_GET

        def _end(self, body: bytes) -> None:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

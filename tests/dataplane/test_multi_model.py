"""TargetModel at the door: loading on demand, making room, models that the server has lost."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from clary.dataplane import model_shelf
from clary.store.objects import Objects

ROLE = "arn:aws:iam::123456789012:role/reader"


class ManyModels:
    """A container that holds `room` models, as the contract of multi-model containers says."""

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.loaded: dict[str, str] = {}
        self.asked: list[str] = []
        self.guard = threading.Lock()

    def __call__(self, seen: Any) -> tuple[int, dict[str, str], bytes]:
        with self.guard:
            return self._answer(seen)

    def _answer(self, seen: Any) -> tuple[int, dict[str, str], bytes]:
        name, _, verb = seen.path.removeprefix("/models").removeprefix("/").partition("/")
        self.asked.append(f"{seen.method} {verb or 'models'}")
        if verb == "invoke":
            if name not in self.loaded:
                return 404, {}, b"not loaded"
            says = (Path(self.loaded[name]) / "name.txt").read_bytes()
            return (404, {}, b"no such row") if seen.body == b"missing" else (200, {}, says)
        if seen.method == "POST":
            asked = json.loads(seen.body)
            if asked["model_name"] in self.loaded:
                return 409, {}, b"loaded already"
            if len(self.loaded) >= self.room:
                return 507, {}, b"no memory"
            self.loaded[asked["model_name"]] = asked["url"]
            return 200, {}, b"{}"
        if seen.method == "DELETE":
            return (200 if self.loaded.pop(name, None) else 404), {}, b"{}"
        return (200 if name in self.loaded else 404), {}, b"{}"


class Everything:
    def permits(self, role: str, action: str, resource: str) -> bool:
        return role == ROLE and action == "s3:GetObject" and "forbidden" not in resource

    def credentials(self, role: str, work: str) -> dict[str, str]:
        raise AssertionError("fetching a model needs no credentials")


class Shop:
    """A multi-model endpoint behind a real door, and the models in its bucket."""

    def __init__(self, home: Path, store: Objects, server: ManyModels, client: Any) -> None:
        self.home, self.store, self.server, self.client = home, store, server, client

    def put(self, key: str, says: str) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
            member = tarfile.TarInfo("name.txt")
            member.size = len(says)
            packed.addfile(member, io.BytesIO(says.encode()))
        self.store.put("shop", f"models/{key}", buffer.getvalue())

    def invoke(self, target: str | None = None, body: bytes = b"x", **members: Any) -> str:
        named = {} if target is None else {"TargetModel": target}
        answer = self.client.invoke_endpoint(EndpointName="many", Body=body, **named, **members)
        return answer["Body"].read().decode()

    def refused(self, *words: Any, **members: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            self.invoke(*words, **members)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    @property
    def on_disk(self) -> list[Path]:
        return list((self.home / "models").iterdir())


@pytest.fixture
def open_shop(home, control, start_door, serve_unix, set_routes) -> Iterator[Any]:
    store = Objects(home / "objects", region="us-east-1", durable=False)
    store.create_bucket("shop")
    (home / "models").mkdir()
    clients = []
    with start_door(store=store, roles=Everything()) as door:

        def make(*, room: int = 2, cached: bool = True) -> Shop:
            server = ManyModels(room)
            serve_unix(home / "many.sock", server)
            instance = {
                "id": "i-0",
                "socket": str(home / "many.sock"),
                "models": str(home / "models"),
            }
            variant = {
                "name": "A",
                "weight": 1.0,
                "instances": [instance],
                "multi_model": {"prefix": "s3://shop/models/", "cached": cached},
            }
            set_routes(
                {
                    "us-east-1/many": {
                        "arn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/many",
                        "account": "123456789012",
                        "status": "InService",
                        "role": ROLE,
                        "variants": [variant],
                    }
                }
            )
            client = boto3.client(
                "sagemaker-runtime",
                region_name="us-east-1",
                endpoint_url=door.url,
                aws_access_key_id="AKID",
                aws_secret_access_key="secret",
                config=Config(retries={"total_max_attempts": 1}),
            )
            clients.append(client)
            shop = Shop(home, store, server, client)
            for name in "abc":
                shop.put(f"{name}.tar.gz", name)
            return shop

        yield make
        for client in clients:
            client.close()


def test_a_model_is_fetched_and_loaded_once(open_shop):
    shop = open_shop()
    assert [shop.invoke("a.tar.gz") for _ in range(3)] == ["a", "a", "a"]
    assert shop.server.asked == ["POST models", *["POST invoke"] * 3]
    assert len(shop.on_disk) == 1


def test_the_model_that_was_not_asked_for_longest_makes_room(open_shop):
    shop = open_shop(room=2)
    for name in ("a", "b", "a", "c"):
        assert shop.invoke(f"{name}.tar.gz") == name
    kept = {Path(url, "name.txt").read_text() for url in shop.server.loaded.values()}
    assert kept == {"a", "c"}
    assert shop.invoke("b.tar.gz") == "b"
    # Its files were still there: nothing was fetched again.
    assert len(shop.on_disk) == 3


def test_a_model_that_fits_nowhere_is_a_model_error(open_shop):
    shop = open_shop(room=0)
    code, message = shop.refused("a.tar.gz")
    assert code == "ModelError" and "no memory" in message and "(507)" in message


def test_a_server_that_has_lost_a_model_gets_it_again(open_shop):
    shop = open_shop()
    assert shop.invoke("a.tar.gz") == "a"
    shop.server.loaded.clear()
    assert shop.invoke("a.tar.gz") == "a"


def test_a_404_of_the_model_itself_is_its_answer(open_shop):
    shop = open_shop()
    assert shop.invoke("a.tar.gz") == "a"
    code, message = shop.refused("a.tar.gz", body=b"missing")
    assert code == "ModelError" and "no such row" in message


def test_a_model_of_an_endpoint_without_a_cache_goes_after_its_answer(open_shop, wait_until):
    shop = open_shop(cached=False)
    assert shop.invoke("a.tar.gz") == "a"
    wait_until(lambda: not shop.server.loaded and not shop.on_disk)
    assert shop.invoke("a.tar.gz") == "a"


def test_many_who_ask_for_a_cold_model_wait_for_one_load(open_shop):
    shop = open_shop()
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(shop.invoke("b.tar.gz"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["b"] * 8
    assert shop.server.asked.count("POST models") == 1


@pytest.mark.parametrize("key", ["none.tar.gz", "forbidden.tar.gz"])
def test_what_the_role_cannot_read_is_not_told_from_what_is_not_there(open_shop, key):
    shop = open_shop()
    shop.put("forbidden.tar.gz", "secret")
    code, message = shop.refused(key)
    assert code == "ValidationError"
    assert message.startswith(f"Failed to download model data(bucket: shop, key: models/{key})")
    assert shop.on_disk == []


def test_an_archive_that_is_none_is_told(open_shop):
    shop = open_shop()
    shop.store.put("shop", "models/text.tar.gz", b"this is no archive")
    code, message = shop.refused("text.tar.gz")
    assert code == "ValidationError" and "Failed to extract model data archive" in message
    assert shop.on_disk == []


def test_a_request_names_a_model_and_no_container(open_shop):
    shop = open_shop()
    assert shop.refused()[1].endswith("the request must name one in TargetModel.")
    assert "Direct mode" in shop.refused("a.tar.gz", TargetContainerHostname="one")[1]


def test_a_model_that_is_answering_stays_until_it_has_answered(open_shop):
    shop = open_shop(room=1)
    entered, leave = threading.Event(), threading.Event()
    quick = shop.server._answer

    def answer(seen):
        if seen.body == b"slow":
            entered.set()
            shop.server.guard.release()
            assert leave.wait(20)
            shop.server.guard.acquire()
        if seen.method == "DELETE":
            assert leave.is_set(), "unloaded while it was answering"
        return quick(seen)

    shop.server._answer = answer
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(shop.invoke, "a.tar.gz", b"slow")
        assert entered.wait(20)
        other = pool.submit(shop.invoke, "b.tar.gz")
        while shop.server.asked.count("POST models") < 2:
            assert not other.done()
        leave.set()
        assert (slow.result(20), other.result(20)) == ("a", "b")


def test_a_full_disk_is_a_model_error_and_the_models_in_memory_go_on(open_shop, monkeypatch):
    shop = open_shop()
    assert shop.invoke("a.tar.gz") == "a"

    def full(source, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_shelf, "unpack", full)
    code, message = shop.refused("b.tar.gz")
    assert code == "ModelError" and "No space left on device" in message
    assert shop.invoke("a.tar.gz") == "a"
    assert [path.name for path in shop.on_disk if "." in path.name] == []


def test_a_defect_while_a_model_is_loaded_is_told_and_nobody_waits(open_shop, monkeypatch):
    shop = open_shop()

    def broken(source, folder):
        raise ZeroDivisionError

    monkeypatch.setattr(model_shelf, "unpack", broken)
    assert shop.refused("b.tar.gz")[0] == "InternalFailure"

"""Which network a host gets: this machine's, its own, or that of its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from clary.runner import network, recipe
from clary.runner.network import LOOPBACK
from clary.runner.spec import HostSpec

Make = Callable[..., HostSpec]
SERVE = {"socket": "serve.sock", "port": 8080}
PAIR = ["algo-1", "algo-2"]
DRIVERS = {"name": "sm_drivers", "uri": "s3://b/p", "type": "S3Prefix", "target": "input/data/d"}


def foreign(make_spec: Make, **members: Any) -> HostSpec:
    return make_spec(serve=SERVE, **{"endpoint_url": "http://10.1.2.3:4510", **members})


def test_a_job_has_the_network_of_this_machine(make_spec: Make) -> None:
    found = network.of(make_spec(hosts=PAIR), own_network=True)
    assert (found.kind, found.peers, found.inward, found.outward) == ("host", [], None, None)
    assert found.seen("http://10.1.2.3:4510/x") == "http://10.1.2.3:4510/x"


def test_isolated_hosts_of_a_job_share_a_network_and_those_of_a_server_do_not(
    make_spec: Make,
) -> None:
    spec = make_spec(hosts=PAIR, network_isolation=True)
    found = network.of(spec, own_network=True)
    assert found.kind == "own"
    assert found.peers == [str(spec.shared / "algo-2" / "program.lock")]
    served = make_spec(hosts=PAIR, network_isolation=True, serve=SERVE)
    assert network.of(served, own_network=True).peers == []


def test_hosts_that_sdk_v3_s_drivers_start_share_a_network_with_a_door_for_each(
    make_spec: Make,
) -> None:
    url = "http://10.1.2.3:4510"
    one, two = (
        make_spec(host=host, hosts=PAIR, inputs=[DRIVERS], endpoint_url=url) for host in PAIR
    )
    first, second = (network.of(spec, own_network=True) for spec in (one, two))
    assert first.kind == second.kind == "own"
    assert first.peers == [str(one.shared / "algo-2" / "program.lock")]
    address = network.addresses(one)["algo-1"]
    assert address.startswith("127.") and address.endswith(".1")
    assert first.seen(f"{url}/x") == f"http://{address}:4510/x"
    assert second.seen(f"{url}/x") == f"http://{network.addresses(one)['algo-2']}:4510/x"
    assert f"{address} algo-1\n" in recipe.hosts_file(one)
    assert f",algo-1,algo-2,{address}," in recipe.platform(one, first)["NO_PROXY"]


def test_a_host_alone_hosts_on_several_machines_and_images_as_they_are_keep_their_network(
    make_spec: Make,
) -> None:
    container = {"argv": [], "container": {"engine": "/run/d.sock", "image": "x"}}
    for members in (
        {},
        {"hosts": PAIR, "addresses": {"algo-1": "10.0.0.1", "algo-2": "10.0.0.2"}},
        {"hosts": PAIR, "program": container},
    ):
        found = network.of(make_spec(inputs=[DRIVERS], **members), own_network=True)
        assert (found.kind, found.peers, found.outward) == ("host", [], None)
    without = network.of(make_spec(hosts=PAIR, inputs=[DRIVERS]), own_network=False)
    assert without.kind == "host"


def test_a_server_of_clary_s_own_needs_no_relay(make_spec: Make) -> None:
    spec = make_spec(serve={"socket": "serve.sock"})
    found = network.of(spec, own_network=True)
    assert (found.kind, found.port, found.inward) == ("host", 0, None)


def test_a_foreign_server_gets_port_8080_and_a_way_back_to_the_door(make_spec: Make) -> None:
    spec = foreign(make_spec)
    found = network.of(spec, own_network=True)
    assert (found.kind, found.port) == ("own", 8080)
    assert found.inward == {"socket": str(spec.directory / "serve" / "serve.sock"), "port": 8080}
    assert found.outward == {"host": LOOPBACK, "port": 4510, "address": ["10.1.2.3", 4510]}
    assert found.seen("http://10.1.2.3:4510/_clary/x?y") == "http://127.0.0.1:4510/_clary/x?y"


def test_the_port_that_its_environment_names_is_taken_and_nonsense_is_not(make_spec: Make) -> None:
    for text, port in (("9000", 9000), ("none", 8080), ("70000", 8080), ("", 8080)):
        program = {"argv": ["serve"], "environment": {network.BIND_TO_PORT: text}}
        assert network.of(foreign(make_spec, program=program), own_network=True).port == port


def test_an_isolated_server_has_no_way_out(make_spec: Make) -> None:
    found = network.of(foreign(make_spec, network_isolation=True), own_network=True)
    assert found.inward is not None
    assert found.outward is None


def test_a_door_on_port_8080_is_found_at_another_port_inside(make_spec: Make) -> None:
    found = network.of(foreign(make_spec, endpoint_url="http://127.0.0.1:8080"), own_network=True)
    assert found.outward == {"host": LOOPBACK, "port": 4510, "address": [LOOPBACK, 8080]}
    assert found.seen("http://127.0.0.1:8080") == "http://127.0.0.1:4510"


def test_without_networks_of_its_own_a_server_gets_a_free_port(make_spec: Make) -> None:
    found = network.of(foreign(make_spec), own_network=False)
    assert found.kind == "host"
    assert found.port not in (0, 8080)
    assert found.inward is not None
    assert found.inward["port"] == found.port

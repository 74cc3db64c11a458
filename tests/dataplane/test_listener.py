"""The public port: the HTTPS proxy for AWS hosts, direct TLS, tunnels, refusals."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading

import boto3
import pytest
from botocore.config import Config
from cryptography import x509

from clary.dataplane.authority import Authority, is_aws_host

STS_ANSWER = (
    b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    b"<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/admin</Arn>"
    b"<UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult>"
    b"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
)


@pytest.fixture
def trusting(door, home):
    return ssl.create_default_context(cafile=home / "authority" / "ca.pem")


def tunnel_status(door, head):
    """What the proxy answers to these bytes, and the socket to go on with."""
    client = socket.create_connection(("127.0.0.1", door.port), timeout=20)
    client.sendall(head)
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(4096)
        if not piece:
            break
        received += piece
    return int(received.split()[1]), received, client


def test_boto3_reaches_the_real_sts_host_through_the_proxy(
    home, serve_unix, start_door, monkeypatch
):
    control = serve_unix(
        home / "run" / "control.sock", lambda seen: (200, {"content-type": "text/xml"}, STS_ANSWER)
    )
    with start_door() as door:
        monkeypatch.setenv("HTTPS_PROXY", door.url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(home / "authority" / "bundle.pem"))
        sts = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url="https://sts.us-east-1.amazonaws.com",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )
        identity = sts.get_caller_identity()
        sts.close()
    assert identity["Account"] == "123456789012"
    (seen,) = control.seen
    assert seen.header("host") == "sts.us-east-1.amazonaws.com"
    assert "/us-east-1/sts/aws4_request" in seen.header("authorization")
    assert seen.header("x-clary-peer") == "127.0.0.1"


@pytest.mark.parametrize(
    "host", ["sts.amazonaws.com", "my.dotted.bucket.s3.eu-west-1.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn"]
)  # fmt: skip
def test_the_certificate_fits_the_host_that_was_asked_for(door, trusting, host):
    connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=trusting, timeout=20)
    connection.set_tunnel(host, 443)
    connection.request("GET", "/_clary/health")
    assert connection.getresponse().status == 200
    connection.close()


def test_tls_without_a_proxy_request_is_served_too(door, trusting, control):
    for name in ("localhost", "127.0.0.1", "runtime.sagemaker.us-east-1.amazonaws.com"):
        raw = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        with trusting.wrap_socket(raw, server_hostname=name) as client:
            client.sendall(b"GET /direct HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            received = b""
            while piece := client.recv(4096):
                received += piece
        assert received.startswith(b"HTTP/1.1 200")
    assert {seen.header("x-clary-peer") for seen in control.seen} == {"127.0.0.1"}


def test_a_large_body_passes_through_the_tls_proxy_whole(door, trusting, control):
    connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=trusting, timeout=30)
    connection.set_tunnel("monitoring.us-east-1.amazonaws.com", 443)
    body = b"0123456789abcdef" * (128 * 1024)
    connection.request("POST", "/", body)
    assert json.loads(connection.getresponse().read())["size"] == len(body)
    connection.close()


def test_direct_tls_for_a_host_that_is_not_ours_fails_the_handshake(door, trusting):
    raw = socket.create_connection(("127.0.0.1", door.port), timeout=20)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        trusting.wrap_socket(raw, server_hostname="example.com")
    raw.close()


def test_other_hosts_are_refused_where_passing_is_off(home, control, start_door):
    with start_door(pass_other_hosts=False) as door:
        status, received, client = tunnel_status(
            door, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n"
        )
        client.close()
    assert status == 403
    assert b"example.org" in received


def test_look_alike_hosts_are_not_ours():
    assert is_aws_host("sts.us-east-1.amazonaws.com")
    assert is_aws_host("API.SAGEMAKER.US-EAST-1.AMAZONAWS.COM.")
    assert is_aws_host("sagemaker.us-east-1.api.aws")
    assert not is_aws_host("amazonaws.com.evil.org")
    assert not is_aws_host("evilamazonaws.com")
    assert not is_aws_host("sts.amazonaws.com/../x")
    assert not is_aws_host("*.amazonaws.com")


@pytest.fixture
def stranger():
    """A server of someone else's: sends back what it gets, in capitals."""
    listening = socket.create_server(("127.0.0.1", 0))

    def work():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            while piece := client.recv(65536):
                client.sendall(piece.upper())
            client.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(20)


def test_other_hosts_are_tunnelled_blindly_where_passing_is_on(door, stranger):
    status, _, client = tunnel_status(door, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % stranger)
    assert status == 200
    client.sendall(b"hello there")
    assert client.recv(100) == b"HELLO THERE"
    client.shutdown(socket.SHUT_WR)
    assert client.recv(100) == b""
    client.close()


def test_a_tunnel_carries_megabytes_at_the_pace_of_the_slower_side(door, stranger):
    _, _, client = tunnel_status(door, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % stranger)
    body = b"abcdefgh" * (512 * 1024)
    sender = threading.Thread(target=lambda: client.sendall(body))
    sender.start()
    received = bytearray()
    while len(received) < len(body):
        received += client.recv(1 << 20)
    sender.join(20)
    client.close()
    assert received == body.upper()


def test_a_tunnel_goes_through_the_proxy_of_the_machine(home, control, start_door, stranger):
    with start_door() as outer, start_door(environment={"HTTPS_PROXY": outer.url}) as door:
        status, _, client = tunnel_status(door, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % stranger)
        assert status == 200
        client.sendall(b"via two doors")
        assert client.recv(100) == b"VIA TWO DOORS"
        client.close()


def test_too_many_connections_are_cut_off_and_closed_ones_make_room(door, monkeypatch, wait_until):
    monkeypatch.setattr("clary.dataplane.listener.CONNECTIONS_MAX", 3)

    def is_served():
        connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
        try:
            connection.request("GET", "/_clary/health")
            return connection.getresponse().status == 200
        except (http.client.HTTPException, ConnectionError):
            return False
        finally:
            connection.close()

    silent = [socket.create_connection(("127.0.0.1", door.port), timeout=20) for _ in range(3)]
    assert not is_served()
    for client in silent:
        client.close()
    wait_until(is_served)


def test_a_host_that_cannot_be_reached_is_a_502(door):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    status, received, client = tunnel_status(door, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n\r\n" % port)
    client.close()
    assert status == 502
    assert b"cannot reach" in received


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT nonsense HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT sts.amazonaws.com:80 HTTP/1.1\r\n\r\n", 403),
        (b"CONNECT " + b"x" * 9000, 431),
    ],
)
def test_malformed_proxy_requests_are_refused(door, head, status):
    answered, _, client = tunnel_status(door, head)
    client.close()
    assert answered == status


def test_the_authority_is_made_once_with_private_files(home):
    first = Authority(home / "authority")
    certificate = first.certificate_path.read_bytes()
    assert (home / "authority").stat().st_mode & 0o777 == 0o700
    assert (home / "authority" / "ca.key").stat().st_mode & 0o777 == 0o600
    first.server_context()
    for leaf in (home / "authority" / "leaves").iterdir():
        assert leaf.stat().st_mode & 0o777 == 0o600
    assert Authority(home / "authority").certificate_path.read_bytes() == certificate
    assert Authority(home / "other").certificate_path.read_bytes() != certificate


def test_the_authority_may_only_vouch_for_aws_and_this_machine(home):
    authority = Authority(home / "authority")
    certificate = x509.load_pem_x509_certificate(authority.certificate_path.read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    names = {
        name.value
        for name in constraints.value.permitted_subtrees
        if isinstance(name, x509.DNSName)
    }
    assert "amazonaws.com" in names
    assert all("." not in name or name.endswith(("aws", ".com", ".com.cn")) for name in names)


def test_the_bundle_joins_our_certificate_and_the_system_s(home):
    system = home / "system.pem"
    system.write_text("SYSTEM CERTIFICATES\n")
    authority = Authority(home / "authority")
    joined = authority.bundle(system).read_text()
    assert authority.certificate_path.read_text() in joined
    assert joined.endswith("SYSTEM CERTIFICATES\n")

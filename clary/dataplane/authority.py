"""The certificate authority of one installation: made on first start, never shared.

It vouches for AWS host names and this machine only: name constraints in its certificate make
clients reject anything else it might sign, so a stolen key opens no other site.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import secrets
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AWS_DOMAINS = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "sagemaker.aws",
    "on.aws",
)
LOCAL_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9-]{1,63}\Z"
)
AUTHORITY_DAYS = 3650
LEAF_DAYS = 90
LEAF_RENEWAL_DAYS = 30
CONTEXTS_MAX = 256
LEAVES_MAX = 512


def is_aws_host(host: str) -> bool:
    """Whether Clary answers for this host name."""
    host = host.lower().rstrip(".")
    return bool(HOST_NAME.match(host)) and any(
        host == domain or host.endswith("." + domain) for domain in AWS_DOMAINS
    )


class Authority:
    """Signs leaf certificates on demand and keeps them, on disk and as ready TLS contexts."""

    def __init__(
        self, folder: Path, *, own_names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    ):
        self.folder = folder
        self.own_names = own_names
        self.certificate_path = folder / "ca.pem"
        self._key_path = folder / "ca.key"
        self._leaves = folder / "leaves"
        self._contexts: OrderedDict[str, tuple[ssl.SSLContext, datetime.datetime]] = OrderedDict()
        for path in (folder, self._leaves):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
        self._key, self._certificate = self._load_or_make()

    def server_context(self) -> ssl.SSLContext:
        """A context that shows each client the certificate of the host it asks for."""
        context = _server_context()
        leaf, _ = self._leaf(self.own_names)
        context.load_cert_chain(leaf)

        def choose(
            connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
        ) -> int | None:
            if name is None or name.lower() in self.own_names:
                return None
            if not is_aws_host(name):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = self._context(name.lower().rstrip("."))
            return None

        context.sni_callback = choose
        return context

    def bundle(self, system: Path | None) -> Path:
        """Our certificate joined to the system's, so that one variable serves every host."""
        path = self.folder / "bundle.pem"
        ours = self._certificate.public_bytes(serialization.Encoding.PEM)
        theirs = system.read_bytes() if system is not None and system.is_file() else b""
        content = ours + b"\n" + theirs
        if not path.is_file() or path.read_bytes() != content:
            _write(path, content, mode=0o644)
        return path

    def _context(self, host: str) -> ssl.SSLContext:
        # One certificate serves a host and its siblings, so bucket names do not pile up.
        parent = host.partition(".")[2]
        names = (host,) if not is_aws_host(parent) else (parent, f"*.{parent}")
        now = datetime.datetime.now(datetime.UTC)
        known = self._contexts.get(names[0])
        if known is not None and known[1] > now:
            self._contexts.move_to_end(names[0])
            return known[0]
        leaf, renewal = self._leaf(names)
        context = _server_context()
        context.load_cert_chain(leaf)
        self._contexts[names[0]] = (context, renewal)
        while len(self._contexts) > CONTEXTS_MAX:
            self._contexts.popitem(last=False)
        return context

    def _leaf(self, names: tuple[str, ...]) -> tuple[Path, datetime.datetime]:
        """A file with key and certificates for these names, and when it must be renewed."""
        path = self._leaves / (re.sub(r"[^a-z0-9.-]", "_", "+".join(names)) + ".pem")
        if path.is_file():
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            renewal = certificate.not_valid_after_utc - datetime.timedelta(days=LEAF_RENEWAL_DAYS)
            issued_by_us = certificate.issuer == self._certificate.subject
            if issued_by_us and renewal > datetime.datetime.now(datetime.UTC):
                return path, renewal
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(names, key)
        authority = self._certificate.public_bytes(serialization.Encoding.PEM)
        content = _private_bytes(key) + certificate.public_bytes(serialization.Encoding.PEM)
        _write(path, content + authority, mode=0o600)
        self._prune()
        renewal = certificate.not_valid_after_utc - datetime.timedelta(days=LEAF_RENEWAL_DAYS)
        return path, renewal

    def _sign(self, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _load_or_make(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        if self._key_path.is_file() and self.certificate_path.is_file():
            key = serialization.load_pem_private_key(self._key_path.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(self.certificate_path.read_bytes())
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{self._key_path} does not hold an elliptic-curve key; delete it")
            if key.public_key() != certificate.public_key():
                raise ValueError(f"{self.folder} holds a key and a certificate that do not match")
            return key, certificate
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key)
        _write(self._key_path, _private_bytes(key), mode=0o600)
        _write(
            self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644
        )
        return key, certificate

    def _prune(self) -> None:
        leaves = sorted(self._leaves.glob("*.pem"), key=lambda path: path.stat().st_mtime)
        for path in leaves[:-LEAVES_MAX]:
            path.unlink(missing_ok=True)


def system_bundle(environment: Mapping[str, str]) -> Path | None:
    """The certificates that clients of this machine trust today."""
    paths = ssl.get_default_verify_paths()
    candidates = (
        environment.get("AWS_CA_BUNDLE"),
        environment.get("REQUESTS_CA_BUNDLE"),
        environment.get("SSL_CERT_FILE"),
        paths.cafile,
        paths.openssl_cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    )
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    # A random suffix tells two installations' authorities apart in a trust store.
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Clary local authority {secrets.token_hex(4)}")]
    )
    permitted = [
        *(x509.DNSName(domain) for domain in (*AWS_DOMAINS, "localhost")),
        *(x509.IPAddress(ipaddress.ip_network(network)) for network in LOCAL_NETWORKS),
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write whole or not at all; the file never exists with wider permissions than `mode`."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

"""A network interface made in a network of one's own, asked of the kernel by netlink."""

from __future__ import annotations

import os
import socket
import struct

try:
    import fcntl
except ImportError:  # Windows, where none of this is called
    fcntl = None  # type: ignore[assignment]

# Kernels differ in what they have; each of these can hold an address and lead nowhere.
KINDS = ("dummy", "bridge", "veth")
_RTM_NEWLINK, _NLMSG_ERROR = 16, 2
_REQUEST_ACK_CREATE_EXCL = 0x1 | 0x4 | 0x400 | 0x200
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_IFF_UP = 1
_SIOCSIFADDR = 0x8916
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, the flags to change


def add(name: str, address: str) -> str:
    """Make an interface, bring it up, and return its kind; OSError if the kernel has none."""
    kind = _make_first(name)
    assert fcntl is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        wanted = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        fcntl.ioctl(channel, _SIOCSIFADDR, struct.pack("16s16s", name.encode(), wanted))
    return kind


def _make_first(name: str) -> str:
    problem: OSError | None = None
    for kind in KINDS:
        try:
            _make(name, kind)
            return kind
        except OSError as refusal:
            problem = refusal
    assert problem is not None
    raise problem


def _make(name: str, kind: str) -> None:
    info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind.encode() + b"\0"))
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
    body += _attribute(_IFLA_IFNAME, name.encode() + b"\0") + info
    size = _HEADER.size + len(body)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        channel.sendall(_HEADER.pack(size, _RTM_NEWLINK, _REQUEST_ACK_CREATE_EXCL, 1, 0) + body)
        answer = channel.recv(4096)
    told = _HEADER.unpack_from(answer)[1]
    (number,) = struct.unpack_from("=i", answer, _HEADER.size)
    if told != _NLMSG_ERROR or number != 0:
        raise OSError(-number, f"an interface of the kind {kind}: {os.strerror(-number)}")


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)

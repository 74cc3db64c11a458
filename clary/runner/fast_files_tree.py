"""The objects of a channel as folders and files, numbered as the kernel knows them."""

from __future__ import annotations

from collections.abc import Iterable

from .fast_files_protocol import NAME_BYTES_MAX, ROOT, Shown, folder_entry
from .faults import DOWNLOAD, ClientFault
from .manifests import Item


class Node:
    __slots__ = ("children", "entries", "item", "name", "number", "parent")

    def __init__(self, number: int, name: bytes, parent: Node | None, item: Item | None) -> None:
        self.number = number
        self.name = name
        self.parent = parent or self
        self.item = item  # None for a folder
        self.children: dict[bytes, Node] = {}
        self.entries: list[Node] | None = None  # made of the children when they are first listed


class Tree:
    """Never changes: what was listed at the beginning is what the job sees to its end."""

    def __init__(self, items: Iterable[Item], moment: float) -> None:
        self._moment = int(moment)
        self.nodes = [Node(ROOT, b"", None, None)]  # each at its number, less that of the root
        self.size = 0
        for item in items:
            self._add(item)

    def _add(self, item: Item) -> None:
        *folders, name = item.path.encode("utf-8", "surrogateescape").split(b"/")
        node = self.nodes[0]
        for folder in folders:
            node = node.children.get(folder) or self._make(folder, node, None)
        self._make(name, node, item)
        self.size += item.size or 0

    def _make(self, name: bytes, parent: Node, item: Item | None) -> Node:
        if len(name) > NAME_BYTES_MAX:
            text = name.decode("utf-8", "replace")
            raise ClientFault(f"{DOWNLOAD}File name too long: {text}")
        node = Node(len(self.nodes) + ROOT, name, parent, item)
        self.nodes.append(node)
        parent.children[name] = node
        return node

    def node(self, number: int) -> Node:
        """The kernel knows no number that it was not told."""
        return self.nodes[number - ROOT]

    def shown(self, node: Node) -> Shown:
        size = 0 if node.item is None else node.item.size or 0
        return Shown(node.number, node.item is None, size, self._moment)

    def listing(self, folder: Node, offset: int, room: int) -> bytes:
        """The lines of a folder from the one numbered `offset` on, as many as there is room for."""
        if folder.entries is None:
            folder.entries = list(folder.children.values())
        links = [(b".", folder), (b"..", folder.parent)]
        lines: list[bytes] = []
        for index in range(offset, len(links) + len(folder.entries)):
            known = index >= len(links)
            node = folder.entries[index - len(links)] if known else links[index][1]
            name = node.name if known else links[index][0]
            line = folder_entry(name, self.shown(node), index + 1, known=known)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        return b"".join(lines)

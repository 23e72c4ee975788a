"""XML that remembers what was read of it: what nobody asked for is listed, so that no reader can overlook anything in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from embodichain.assets.families.parts import Fate, Kept
from embodichain.errors import AssetError

_DEEPEST = 200
"""Elements within each other: descriptions nest their links (MJCF) some dozen deep, and readers call themselves at each step."""
_SHOWN = 120
"""Characters of what was not read that the table shows."""


def parse(path: Path) -> ElementTree.Element:
    """The XML of a file, in whichever encoding.

    Raises:
        AssetError: it is malformed, nested too deeply, or declares a document type, whose entities could be bombs.
    """
    text = path.read_bytes()
    if b"<?xml" in text and not text.startswith((b"<?xml", b"\xef\xbb\xbf<?xml")):
        text = re.sub(rb"<\?xml[^>]*\?>", b"", text, count=1)  # a declaration that comes late says nothing that is needed
    parser = ElementTree.XMLParser(target=_Strict(path))
    try:
        parser.feed(text)
        return parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AssetError(f"read: {path} is no well-formed XML: {error}") from error


class _Strict(ElementTree.TreeBuilder):
    """Builds the tree, and refuses as soon as it is seen what a description needs not and what could harm its readers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._depth = path, 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise AssetError(f"read: {self._path} nests elements more than {_DEEPEST} deep; is it a description?")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise AssetError(f"read: {self._path} declares a document type or entities; robot descriptions need none, remove them")


class Node:
    """An element whose attributes and children are marked as read when they are asked for."""

    def __init__(self, element: ElementTree.Element, seen: set[tuple[int, str]] | None = None) -> None:
        self.element = element
        self._seen = set[tuple[int, str]]() if seen is None else seen
        self._seen.add((id(element), ""))

    @property
    def tag(self) -> str:
        """What kind of element it is."""
        return self.element.tag

    def get(self, name: str, default: str | None = None) -> str | None:
        """An attribute."""
        self._seen.add((id(self.element), name))
        return self.element.get(name, default)

    def text(self) -> str:
        """What stands between its tags."""
        return (self.element.text or "").strip()

    def find(self, tag: str) -> Node | None:
        """The first child of a kind; further ones stay unread."""
        found = self.element.find(tag)
        return None if found is None else Node(found, self._seen)

    def findall(self, tag: str) -> list[Node]:
        """All children of a kind."""
        return [Node(found, self._seen) for found in self.element.findall(tag)]

    def first(self) -> Node | None:
        """The first child of any kind."""
        return Node(self.element[0], self._seen) if len(self.element) else None

    def numbers(self, name: str, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
        """The numbers of an attribute; raises AssetError when there are not `count` ones, and finite ones unless told otherwise.

        An empty `default` says that it must be there.
        """
        return _numbers(self.get(name), count, default, f"{name} {where}", finite=finite)

    def inner(self, tag: str, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
        """The numbers between the tags of the first child of a kind, as `numbers` has those of an attribute."""
        child = self.find(tag)
        return _numbers(None if child is None else child.text(), count, default, f"<{tag}> {where}", finite=finite)

    def number(self, name: str, default: float | None, where: str, *, finite: bool = True) -> float:
        """The one number of an attribute; without a `default` it must be there."""
        return self.numbers(name, 1, () if default is None else (default,), where, finite=finite)[0]

    def unread(self, reason: str) -> Iterator[Kept]:
        """A row for every element and attribute below that nobody asked for."""
        yield from self._unread(self.element, self.element.get("name", self.element.tag), reason)

    def _unread(self, element: ElementTree.Element, owner: str, reason: str) -> Iterator[Kept]:
        for name, value in element.attrib.items():
            if (id(element), name) not in self._seen:
                yield Kept(of=owner, what=f"{element.tag} {name}", stated=value[:_SHOWN], fate=Fate.DROPPED, reason=reason)
        for child in element:
            if not isinstance(child.tag, str):
                continue  # a comment
            inner = child.get("name", owner)
            if (id(child), "") in self._seen:
                yield from self._unread(child, inner, reason)
            else:
                text = ElementTree.tostring(child, encoding="unicode").strip()
                yield Kept(of=inner, what=child.tag, stated=" ".join(text.split())[:_SHOWN], fate=Fate.DROPPED, reason=reason)


def _numbers(text: str | None, count: int, default: tuple[float, ...], where: str, *, finite: bool = True) -> tuple[float, ...]:
    if text is None and default:
        return default
    try:
        values = tuple(float(word) for word in (text or "").replace(",", " ").split())
    except ValueError:
        values = ()
    if len(values) != count or (finite and not all(math.isfinite(value) for value in values)):
        raise AssetError(f"read: {where} is {text!r}, expected {count} finite number{'s' * (count > 1)}")
    return values

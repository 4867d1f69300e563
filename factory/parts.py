"""
Cut a JSON value into parts that are named by their content, so that what two cycles share is kept once.

- A long text (a job's ad, a slot's ad) is a part.
- A long list is cut into parts of about 32 elements. Where it is cut follows from the elements alone, so one that
  comes or goes changes one part, wherever in the list it stands.
- Single values that change in every cycle (clocks, counts of jobs) are taken out of their places into columns by key,
  so a part does not change with them.

The rest, with the names of the parts in it, is the root.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from accounting.model import Packed, Part

CLOCKS = frozenset({"cycle", "now_s", "taken_s", "last_s", "slot_seen_s", "clock_offset_s", "calls_last_minute"})
"""Keys that differ between two cycles in which nothing happened."""
COUNTS = frozenset({"jobs", "first_job", "running", "running_jobs", "busy_cores", "busy_memory_mib", "busy_disk_mib"})
"""Keys that change often; a change of one is a change."""
LONG_TEXT = 200
LONG_LIST = 16
_CUT_EVERY = 32
_PART_ELEMENTS_MAX = 256

_TEXT, _LIST = "$text", "$list"
"""Keys of the objects that stand for a part; no field of ours begins with a dollar."""


class PartMissing(ValueError):
    """A part that the root names is not there: the record is damaged."""


def pack(value: Any) -> Packed:
    """The value in parts; equal digests mean values that differ in their clocks only."""
    packer = _Packer(parts={}, columns=defaultdict(list))
    tree, children = packer.cut(value)
    clocks = {key: column for key, column in packer.columns.items() if key in CLOCKS}
    counts = {key: column for key, column in packer.columns.items() if key not in CLOCKS}
    steady = _json({"tree": tree, "counts": counts})
    root = _json({"tree": tree, "counts": counts, "clocks": clocks})
    return Packed(
        root=Part(data=root, children=tuple(sorted(children))),
        parts=packer.parts,
        digest=hashlib.sha256(steady).hexdigest(),
    )


def unpack(root: bytes, parts: Mapping[str, bytes]) -> Any:
    """
    The value that was packed.

    :raises PartMissing: a part is not there.
    :raises ValueError: the bytes are not what :func:`pack` makes.
    """
    whole = json.loads(root)
    columns = {key: iter(column) for key, column in (whole["counts"] | whole["clocks"]).items()}
    return _restore(whole["tree"], parts, columns)


@dataclass(slots=True, kw_only=True)
class _Packer:
    """What is collected on the way through a value."""

    parts: dict[str, Part]
    columns: dict[str, list[Any]]

    def cut(self, value: Any) -> tuple[Any, set[str]]:
        """The value with parts and columns taken out, and the names of the parts that it refers to."""
        match value:
            case str() if len(value) >= LONG_TEXT:
                name = self._part(value.encode("utf-8", "surrogatepass"), ())
                return {_TEXT: name}, {name}
            case dict():
                return self._cut_object(value)
            case list():
                cuts = [self.cut(one) for one in value]
                if len(cuts) >= LONG_LIST:
                    names = [self._part(data, children) for data, children in _chunks(cuts)]
                    return {_LIST: names}, set(names)
                return [tree for tree, _ in cuts], set().union(*(children for _, children in cuts))
            case _:
                return value, set()

    def _cut_object(self, value: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """An object without its clocks and counts."""
        tree: dict[str, Any] = {}
        names: set[str] = set()
        for key, inner in value.items():
            if (key in CLOCKS or key in COUNTS) and not isinstance(inner, dict | list):
                self.columns[key].append(inner)
                tree[key] = None
            else:
                tree[key], children = self.cut(inner)
                names |= children
        return tree, names

    def _part(self, data: bytes, children: tuple[str, ...]) -> str:
        """Keep a part; its name."""
        name = hashlib.sha256(data).hexdigest()[:32]
        self.parts[name] = Part(data=data, children=children)
        return name


def _chunks(cuts: list[tuple[Any, set[str]]]) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """Runs of elements with the parts that they refer to; an element's content says whether a run ends with it."""
    texts: list[bytes] = []
    names: set[str] = set()
    for tree, children in cuts:
        text = _json(tree)
        texts.append(text)
        names |= children
        if zlib.crc32(text) % _CUT_EVERY == 0 or len(texts) == _PART_ELEMENTS_MAX:
            yield b"[" + b",".join(texts) + b"]", tuple(sorted(names))
            texts, names = [], set()
    if texts:
        yield b"[" + b",".join(texts) + b"]", tuple(sorted(names))


def _restore(tree: Any, parts: Mapping[str, bytes], columns: Mapping[str, Iterator[Any]]) -> Any:
    """The value again: in the order in which it was cut, so that each place finds its own value in its column."""
    if isinstance(tree, list):
        return [_restore(one, parts, columns) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if _TEXT in tree:
        return _of(tree[_TEXT], parts).decode("utf-8", "surrogatepass")
    if _LIST in tree:
        return [_restore(one, parts, columns) for name in tree[_LIST] for one in json.loads(_of(name, parts))]
    return {
        key: next(columns[key])
        if inner is None and (key in CLOCKS or key in COUNTS)
        else _restore(inner, parts, columns)
        for key, inner in tree.items()
    }


def _of(name: str, parts: Mapping[str, bytes]) -> bytes:
    try:
        return parts[name]
    except KeyError as error:
        raise PartMissing(f"part {name} of the record is not there") from error


def _json(value: Any) -> bytes:
    """Compact JSON; lone surrogates are escaped."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")

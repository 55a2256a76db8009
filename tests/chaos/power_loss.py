"""A file system that loses its power: of what was recorded it keeps what was synced, and of the rest what it likes.

Of a file survive the bytes that a sync of it has covered. Later writes survive or do not, torn at pages; so do later
names of a folder, until the folder is synced. A rename is there or not there, as on every journaling file system, and
a sync of either folder settles it. What no model of this kind shows: a disk that lies about its syncs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from tests.chaos.recorded_writes import Event

Survivors = Literal["none", "some", "first", "all"]
"""Which of the writes survive that nobody has synced."""

PAGE = 4096
_UNSEEN = {"sendfile", "copy_file_range", "splice"}
"""Calls that move bytes which the record does not show."""


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data

    def torn(self, chance: random.Random) -> Iterable[_Write]:
        """The pages of it that reached the disk."""
        begin = 0
        while begin < len(self.data):
            end = min(len(self.data), begin + PAGE - (self.offset + begin) % PAGE)
            if chance.random() < 0.5:
                yield _Write(self.offset + begin, self.data[begin:end])
            begin = end


@dataclass(frozen=True, slots=True)
class _Resize:
    size: int
    grow_only: bool = False

    def apply(self, content: bytearray) -> None:
        if len(content) < self.size:
            content.extend(bytes(self.size - len(content)))
        elif not self.grow_only:
            del content[self.size :]


@dataclass(eq=False, slots=True)
class _File:
    """Its durable content, and what was done since."""

    safe: bytearray = field(default_factory=bytearray)
    since: list[_Write | _Resize] = field(default_factory=list)
    size: int = 0

    def do(self, change: _Write | _Resize) -> None:
        self.since.append(change)
        if isinstance(change, _Write):
            self.size = max(self.size, change.offset + len(change.data))
        else:
            self.size = max(self.size, change.size) if change.grow_only else change.size

    def sync(self, count: int) -> None:
        for change in self.since[:count]:
            change.apply(self.safe)
        del self.since[:count]

    def survives_as(self, survivors: Survivors, chance: random.Random) -> bytes:
        content = bytearray(self.safe)
        kept = {"none": 0, "first": chance.randint(0, len(self.since))}.get(survivors, len(self.since))
        for change in self.since[:kept]:
            if survivors == "some" and isinstance(change, _Write):
                for page in change.torn(chance):
                    page.apply(content)
            elif survivors != "some" or chance.random() < 0.5:
                change.apply(content)
        return bytes(content)


@dataclass(eq=False, slots=True)
class _Folder:
    """Its names now, and those that are durable."""

    now: dict[str, _Node] = field(default_factory=dict)
    safe: dict[str, _Node] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Symlink:
    target: str


_Node = _File | _Folder | _Symlink
_Place = tuple[_Folder, str]


@dataclass(eq=False, slots=True)
class _Naming:
    """One change of names, all of it or nothing: what each place holds afterwards; None is nothing."""

    places: dict[_PlaceKey, tuple[_Folder, str, _Node | None]]

    def touches(self, folder: _Folder) -> bool:
        return any(key[0] == id(folder) for key in self.places)


_PlaceKey = tuple[int, str]


@dataclass(slots=True)
class _Descriptor:
    node: _Node
    path: PurePosixPath
    position: int = 0
    appends: bool = False
    synchronous: bool = False


class PowerLoss:  # as long as the list of system calls
    """Replays a record into a model of the disk below one root.

    Args:
        root: its path when it was recorded; it was there, empty and durable.
        ignored: says of the path of a file or folder that syncs of it do nothing: so a test proves that they matter.
    """

    def __init__(self, root: Path, ignored: Callable[[PurePosixPath], bool] = lambda _: False) -> None:
        self._root = PurePosixPath(root)
        self._ignored = ignored
        self._top = _Folder()
        self._descriptors: dict[int, _Descriptor] = {}
        self._namings: list[_Naming] = []
        self._syncing: dict[int, tuple[_Node, int]] = {}
        self.syncs = 0

    def replay(self, event: Event) -> None:
        """Takes the next event."""
        handler = getattr(self, f"_on_{event.name}", None)
        if event.name in _UNSEEN and event.ended and event.result > 0:
            descriptors = [self._descriptors.get(_number(number)) for number in event.numbers[:3]]
            assert not any(descriptors), f"{event.name} moves bytes that the record does not show"
        if handler is None:
            return
        if event.name in ("fsync", "fdatasync") or (event.ended and event.result >= 0):
            handler(event)

    def rebuild(self, target: Path, survivors: Survivors, chance: random.Random) -> None:
        """Writes what a start after the loss would find."""
        names: dict[int, dict[str, _Node]] = {}

        def apply(naming: _Naming) -> None:
            for folder, name, node in naming.places.values():
                held = names.setdefault(id(folder), dict(folder.safe))
                if node is None:
                    held.pop(name, None)
                else:
                    held[name] = node

        for naming in self._surviving_namings(survivors, chance):
            apply(naming)
        self._write(self._top, target, names, survivors, chance)

    def _surviving_namings(self, survivors: Survivors, chance: random.Random) -> list[_Naming]:
        if survivors == "some":
            chosen = {number for number in range(len(self._namings)) if chance.random() < 0.5}
            return [self._namings[number] for number in sorted(self._with_what_they_need(chosen))]
        kept = {"none": 0, "first": chance.randint(0, len(self._namings))}.get(survivors, len(self._namings))
        return self._namings[:kept]

    def _with_what_they_need(self, chosen: set[int]) -> set[int]:
        """A change of a name comes after the earlier changes of the same name."""
        needed: set[_PlaceKey] = set()
        result = set(chosen)
        for number in reversed(range(len(self._namings))):
            keys = self._namings[number].places.keys()
            if number in chosen or needed & keys:
                result.add(number)
                needed |= keys
        return result

    def _write(
        self,
        folder: _Folder,
        target: Path,
        names: dict[int, dict[str, _Node]],
        survivors: Survivors,
        chance: random.Random,
    ) -> None:
        target.mkdir(mode=0o700, exist_ok=True)
        for name, node in names.get(id(folder), folder.safe).items():
            path = target / name
            if isinstance(node, _Folder):
                self._write(node, path, names, survivors, chance)
            elif isinstance(node, _Symlink):
                path.symlink_to(node.target)
            else:
                path.write_bytes(node.survives_as(survivors, chance))

    # --- syncs ---

    def _on_fsync(self, event: Event) -> None:
        descriptor = self._descriptors.get(_number(event.numbers[0]))
        if descriptor is None or self._ignored(descriptor.path):
            return
        node = descriptor.node
        if not event.ended:
            count = len(node.since) if isinstance(node, _File) else len(self._namings)
            self._syncing[event.thread] = (node, count)
            return
        begun = self._syncing.pop(event.thread, None)
        if begun is None or event.result < 0:
            return
        self.syncs += 1
        if isinstance(node, _File):
            node.sync(begun[1])
        elif isinstance(node, _Folder):
            self._sync_names(node, begun[1])

    _on_fdatasync = _on_fsync

    def _sync_names(self, folder: _Folder, count: int) -> None:
        # Another sync may have taken some of them since this one began: then it takes a few that are younger. That is
        # kind to the code by a moment, and only to syncs of folders that overlap.
        chosen = {number for number, naming in enumerate(self._namings[:count]) if naming.touches(folder)}
        durable = self._with_what_they_need(chosen)
        for number in sorted(durable):
            for held, name, node in self._namings[number].places.values():
                if node is None:
                    held.safe.pop(name, None)
                else:
                    held.safe[name] = node
        self._namings = [naming for number, naming in enumerate(self._namings) if number not in durable]

    def _on_syncfs(self, event: Event) -> None:
        raise AssertionError("syncfs is not modelled yet")

    # --- descriptors ---

    def _on_openat(self, event: Event) -> None:
        self._open(event, self._path(event.numbers[0], event.texts[0]), " ".join(event.numbers[1:]))

    def _on_open(self, event: Event) -> None:
        self._open(event, self._path("AT_FDCWD", event.texts[0]), " ".join(event.numbers))

    def _open(self, event: Event, path: PurePosixPath | None, flags: str) -> None:
        self._descriptors.pop(event.result, None)
        if path is None:
            return
        node = self._find(path)
        if node is None:
            if "O_CREAT" not in flags:
                return
            node = _File()
            self._name({path: node})
        if isinstance(node, _File) and "O_TRUNC" in flags and node.size:
            node.do(_Resize(0))
        synchronous = "O_DSYNC" in flags or "O_SYNC" in flags
        self._descriptors[event.result] = _Descriptor(node, path, 0, "O_APPEND" in flags, synchronous)

    def _on_close(self, event: Event) -> None:
        self._descriptors.pop(_number(event.numbers[0]), None)

    def _on_dup(self, event: Event) -> None:
        if descriptor := self._descriptors.get(_number(event.numbers[0])):
            self._descriptors[event.result] = descriptor
        else:
            self._descriptors.pop(event.result, None)

    _on_dup2 = _on_dup3 = _on_dup

    def _on_fcntl(self, event: Event) -> None:
        if event.numbers[1].startswith("F_DUPFD"):
            self._on_dup(event)

    # --- content ---

    def _on_write(self, event: Event) -> None:
        self._put(event, None)

    _on_writev = _on_write

    def _on_pwrite64(self, event: Event) -> None:
        self._put(event, _number(event.numbers[-1]))

    _on_pwritev = _on_pwrite64

    def _on_pwritev2(self, event: Event) -> None:
        self._put(event, _number(event.numbers[-2]))

    def _put(self, event: Event, offset: int | None) -> None:
        descriptor = self._descriptors.get(_number(event.numbers[0]))
        if descriptor is None or not isinstance(descriptor.node, _File):
            return
        file = descriptor.node
        if offset is None:
            offset = file.size if descriptor.appends else descriptor.position
            descriptor.position = offset + event.result
        file.do(_Write(offset, b"".join(event.texts)[: event.result]))
        if descriptor.synchronous and not self._ignored(descriptor.path):
            file.since.pop().apply(file.safe)

    def _on_lseek(self, event: Event) -> None:
        if descriptor := self._descriptors.get(_number(event.numbers[0])):
            descriptor.position = event.result

    def _on_ftruncate(self, event: Event) -> None:
        descriptor = self._descriptors.get(_number(event.numbers[0]))
        if descriptor is not None and isinstance(descriptor.node, _File):
            descriptor.node.do(_Resize(_number(event.numbers[1])))

    def _on_truncate(self, event: Event) -> None:
        node = self._find(self._path("AT_FDCWD", event.texts[0]))
        if isinstance(node, _File):
            node.do(_Resize(_number(event.numbers[-1])))

    def _on_fallocate(self, event: Event) -> None:
        descriptor = self._descriptors.get(_number(event.numbers[0]))
        if descriptor is not None and isinstance(descriptor.node, _File):
            descriptor.node.do(_Resize(_number(event.numbers[2]) + _number(event.numbers[3]), grow_only=True))

    # --- names ---

    def _on_mkdir(self, event: Event) -> None:
        self._name({self._path("AT_FDCWD", event.texts[0]): _Folder()})

    def _on_mkdirat(self, event: Event) -> None:
        self._name({self._path(event.numbers[0], event.texts[0]): _Folder()})

    def _on_rename(self, event: Event) -> None:
        source, target = (self._path("AT_FDCWD", text) for text in event.texts)
        self._name({source: None, target: self._find(source)})

    def _on_renameat(self, event: Event) -> None:
        source = self._path(event.numbers[0], event.texts[0])
        self._name({source: None, self._path(event.numbers[2], event.texts[1]): self._find(source)})

    _on_renameat2 = _on_renameat

    def _on_link(self, event: Event) -> None:
        source, target = (self._path("AT_FDCWD", text) for text in event.texts)
        self._name({target: self._find(source)})

    def _on_linkat(self, event: Event) -> None:
        source = self._path(event.numbers[0], event.texts[0])
        self._name({self._path(event.numbers[2], event.texts[1]): self._find(source)})

    def _on_unlink(self, event: Event) -> None:
        self._name({self._path("AT_FDCWD", event.texts[0]): None})

    _on_rmdir = _on_unlink

    def _on_unlinkat(self, event: Event) -> None:
        self._name({self._path(event.numbers[0], event.texts[0]): None})

    def _on_symlink(self, event: Event) -> None:
        self._name({self._path("AT_FDCWD", event.texts[1]): _Symlink(event.texts[0].decode())})

    def _on_symlinkat(self, event: Event) -> None:
        self._name({self._path(event.numbers[1], event.texts[1]): _Symlink(event.texts[0].decode())})

    def _name(self, changes: dict[PurePosixPath | None, _Node | None]) -> None:
        places = {}
        for path, node in changes.items():
            place = self._place(path)
            if place is None:
                continue
            folder, name = place
            if node is None:
                folder.now.pop(name, None)
            else:
                folder.now[name] = node
            places[id(folder), name] = (folder, name, node)
        if places:
            self._namings.append(_Naming(places))

    def _place(self, path: PurePosixPath | None) -> _Place | None:
        if path is None or path == self._root:
            return None
        folder = self._find(path.parent)
        assert isinstance(folder, _Folder), f"{path.parent} is not known as a folder"
        return folder, path.name

    def _find(self, path: PurePosixPath | None) -> _Node | None:
        if path is None:
            return None
        node: _Node | None = self._top
        for name in path.relative_to(self._root).parts:
            node = node.now.get(name) if isinstance(node, _Folder) else None
        return node

    def _where(self, wanted: _Node) -> PurePosixPath | None:
        """Where a folder is now: it may have been moved since it was opened."""
        unseen: list[tuple[PurePosixPath, _Node]] = [(self._root, self._top)]
        while unseen:
            path, node = unseen.pop()
            if node is wanted:
                return path
            if isinstance(node, _Folder):
                unseen += ((path / name, held) for name, held in node.now.items())
        return None

    def _path(self, folder: str, text: bytes) -> PurePosixPath | None:
        """An absolute path below the root, or None."""
        path = PurePosixPath(text.decode(errors="surrogateescape"))
        if not path.is_absolute():
            descriptor = None if folder.startswith("AT_FDCWD") else self._descriptors.get(_number(folder))
            place = None if descriptor is None else self._where(descriptor.node)
            if place is None:
                return None
            path = place / path
        return path if path.is_relative_to(self._root) else None


def _number(text: str) -> int:
    found = text.split("<", maxsplit=1)[0].strip().rstrip("]})")
    return int(found, 0) if found.lstrip("-").isdigit() or found.startswith("0") else -1

"""A writer of journals in another hand: made from docs/journal.md alone, with struct, zlib and fcntl, and without rund.

    python foreign_writer.py ROOT RUN WRITER_ID STREAM_ID ROWS HOW

HOW is ``closes``, ``dies`` or ``stays``. It says "written" when all rows are.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import struct
import sys
import time
import zlib
from pathlib import Path

HEAD_BYTES, DATA_BYTES = 32768, 1 << 16
SHAPE_KEYS = (("flag", 1), ("count", 2), ("loss", 3), ("nothing", 0))


class Writer:
    """One journal, without a sender: a daemon drains it."""

    def __init__(self, journals: Path, run: str, writer_id: str, stream_id: str) -> None:
        self.journals, self.writer_id = journals, writer_id
        journals.mkdir(mode=0o700, exist_ok=True)
        texts = (writer_id, stream_id, run, "", str(journals.parent), os.uname().nodename, "", "")
        packed = b"".join(struct.pack("<H", len(text.encode())) + text.encode() for text in texts)
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        facts = struct.pack("<8sHHIqqqiI", b"RUNDJRNH", 1, 0, 2, os.getpid(), ticks, time.time_ns(), 7, len(packed))
        content = facts + struct.pack("<II", zlib.crc32(facts + packed), 0) + packed
        unfinished = journals / f"{writer_id}.tmp"
        self.head = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(self.head, 0, HEAD_BYTES)
        os.pwrite(self.head, content, 0)
        fcntl.lockf(self.head, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        unfinished.rename(journals / f"{writer_id}.journal")
        self.number = self.base = 0
        self.begin_file()

    def begin_file(self) -> None:
        """Goes on in the next file."""
        if self.number:
            self.put(3, b"")  # END
            self.base += self.at - 128
        self.number += 1
        path = self.journals / f"{self.writer_id}.{self.number:04d}.journal"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(descriptor, 0, DATA_BYTES)
        self.memory = mmap.mmap(descriptor, DATA_BYTES)
        os.close(descriptor)
        writer = self.writer_id.encode()
        head = struct.pack("<8sHHIQQH78s12x", b"RUNDJRND", 1, 0, 0, self.base, self.number, len(writer), writer)
        self.memory[:128] = head + struct.pack("<I", zlib.crc32(head[:112]))
        self.at = 128
        keys = b"".join(struct.pack("<BBH", kind, 0, len(key)) + key.encode() for key, kind in SHAPE_KEYS)
        self.put(1, struct.pack("<HHI", 16, len(SHAPE_KEYS), 8 + 40) + keys)

    def put(self, code: int, body: bytes) -> None:
        """Stores a record: the body, then its word."""
        body += bytes(-len(body) % 8)
        size = 8 + len(body)
        if code != 3 and self.at + size + 8 > DATA_BYTES:
            self.begin_file()
        first = struct.pack("<HH", size // 8, code)
        self.memory[self.at + 8 : self.at + size] = body
        self.memory[self.at : self.at + 8] = first + struct.pack("<I", zlib.crc32(first + body))
        self.at += size

    def shaped_row(self, step: int) -> None:
        """A row of the shape: bool, integer, double, null."""
        body = struct.pack("<qqBqd", step, 1_700_000_000_123_456_789, step % 2, step * 10**15, step / 4)
        self.put(16, body)

    def loose_row(self, step: int) -> None:
        """A row that carries its keys: a text, a list, a null."""
        text = f"grüße {step}".encode()
        values = ((4, "text", text), (5, "list", struct.pack("<3d", step, 0.5, -1)), (0, "nothing", b""))
        body = struct.pack("<qqH6x", step, 1_700_000_000_000_000_000 + step, len(values))
        for kind, key, value in values:
            body += struct.pack("<BBHI", kind, 0, len(key), len(value)) + key.encode() + value
        self.put(2, body)


def main() -> None:
    """Writes the rows."""
    root, run, writer_id, stream_id, rows, how = sys.argv[1:]
    writer = Writer(Path(root) / "journals", run, writer_id, stream_id)
    for step in range(int(rows)):
        writer.loose_row(step) if step % 10 == 9 else writer.shaped_row(step)
    if how == "closes":
        os.pwrite(writer.head, struct.pack("<Q", 1), 8192)
    sys.stdout.write("written\n")
    sys.stdout.flush()
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stays":
        time.sleep(600)


if __name__ == "__main__":
    main()

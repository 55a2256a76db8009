"""The key tree of the catalog.

    catalog/                    LMDB environment, one named database a line
    ├── meta                    name                                  → bytes, see `environment.py`
    ├── runs                    run uid                               → Run
    ├── run_names               project ␀ run                         → run uid           runs not in trash
    ├── trash_names             project ␀ run ␀ run uid               → run uid           runs in trash
    ├── project_runs            project ␀ run uid                     → run uid           all runs, by creation
    ├── live_runs               run uid                               → nothing           runs that have not ended
    ├── launches                digest of launch, project and name    → run uid
    ├── values                  run uid, kind, u32 number             → MapValue          inputs and outputs
    ├── last_outputs            run uid                               → MapValue          last output value of each key
    ├── tables                  run uid, u32 number                   → MetricsTable      in order of writing
    ├── table_names             run uid, table                        → u32 number
    ├── table_uids              table uid                             → run uid, u32 number
    ├── trash_tables            run uid, table uid                    → MetricsTable      replaced, and in trash
    ├── marks                   table uid                             → TableMark
    ├── segments                table uid, u32 number                 → Segment
    ├── open_segments           table uid, u32 number                 → state             what a start cuts back
    ├── batches                 table uid, u64 first row              → Batch             in order of commits
    ├── streams                 table uid, stream id                  → Stream
    ├── input_tables            table uid                             → InputTable
    ├── input_table_names       digest of project, dataset and table  → table uid
    ├── input_table_urls        digest of the URL                     → table uid         registered tables
    ├── requests                request id                            → Request
    ├── request_times           u64 time, request id                  → nothing           for forgetting
    ├── events                  u64 revision                          → Event
    ├── operations              operation uid                         → Operation
    ├── reducers                reducer uid                           → Reducer
    ├── reducer_names           project ␀ reducer                     → reducer uid
    ├── snapshots               run or input table uid                → nothing           its JSON file is behind
    ├── collected               run uid                               → nothing           what is left of it goes
    └── moves                   u64 number                            → FolderMove        committed, not carried out

Uids are UUIDv7 in 16 bytes and numbers are big-endian, so that keys sort by time and by number. Names hold no ␀ and are
at most 200 bytes of UTF-8, so that two of them stay under LMDB's 511 bytes of a key; of three there is a digest.

The rule for changing it: a database may be added; what a key or a record means never changes. A change of meaning
takes a new database and a migration in `environment.py`, which raises FORMAT.
"""

from __future__ import annotations

import hashlib

from rund_daemon.model import Uid

NUL = b"\0"

NEXT_INPUT_TABLE_ID = b"next_input_table_id"
"""Name in `meta`."""
REVISION = b"revision"
"""Name in `meta`: the newest revision of the root."""


def u32(number: int) -> bytes:
    """A number that sorts."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """A large number that sorts."""
    return number.to_bytes(8, "big")


def names(*parts: str) -> bytes:
    """Names joined by ␀."""
    return NUL.join(part.encode() for part in parts)


def names_prefix(*parts: str) -> bytes:
    """Begins every key below these names."""
    return names(*parts) + NUL


def trash_name(project: str, run: str, uid: Uid) -> bytes:
    """Key in `trash_names`."""
    return names_prefix(project, run) + uid


def project_run(project: str, uid: Uid) -> bytes:
    """Key in `project_runs`."""
    return names_prefix(project) + uid


def digest(*parts: str) -> bytes:
    """A key of fixed length for texts of any length."""
    return hashlib.sha256(names(*parts)).digest()


def numbered(uid: Uid, number: int) -> bytes:
    """Key in `tables`, `segments` and `open_segments`."""
    return uid + u32(number)


def number_of(key: bytes) -> int:
    """The number in such a key."""
    return int.from_bytes(key[16:], "big")


def batch(table: Uid, first_row: int) -> bytes:
    """Key in `batches`. A batch without rows is not kept, so first rows are unique."""
    return table + u64(first_row)


def value(run: Uid, kind: bytes, number: int) -> bytes:
    """Key in `values`; the kind is b"i" for inputs and b"o" for outputs."""
    return run + kind + u32(number)


def named(uid: Uid, name: str) -> bytes:
    """Key in `table_names` and `streams`."""
    return uid + name.encode()

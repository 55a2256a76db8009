"""Makes the records of reducers again, from their `reducer.json`."""

from __future__ import annotations

import json
from pathlib import Path

from rund_daemon.catalog import shelves
from rund_daemon.errors import RundError
from rund_daemon.identity import parse_uid
from rund_daemon.model import KeptReducer, Micros
from rund_daemon.names import ReducerName
from rund_daemon.segments.layout import REDUCER_MODEL, REDUCER_SNAPSHOT

from .notes import Note


def rebuild_reducer(folder: Path, name: ReducerName) -> KeptReducer | Note:
    """Makes a reducer's record, or says why it is left alone."""
    path = folder / REDUCER_SNAPSHOT
    try:
        document = json.loads(path.read_bytes())
        reducer = KeptReducer(
            uid=parse_uid(document["uid"], "uid"),
            project=name.project,
            name=name.reducer,
            create_time=Micros((folder / REDUCER_MODEL).stat().st_mtime_ns // 1_000),
            parameters=json.dumps(document["parameters"], sort_keys=True),
            source_column=document["source_column"],
            target_column=document["target_column"],
            fit_table_url=document["fit_table_url"],
            fit_row_count=document["fit_row_count"],
            input_width=document["input_width"],
            fingerprint=bytes.fromhex(document["fingerprint"]),
            library_versions=document["library_versions"],
            quality=document["quality"],
            warnings=tuple(document["warnings"]),
        )
        shelves.REDUCERS.encode(reducer)
    except (RundError, OSError, ValueError, KeyError, TypeError) as error:
        message = f"left alone, it can't be read: {type(error).__name__}: {str(error)[:200]}"
        return Note(str(folder), message, loses=True)
    return reducer

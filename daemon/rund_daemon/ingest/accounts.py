"""Keeps each table's commit log up with the catalog. On the writer's thread only.

A log that does not end with the catalog's mark is begun anew from the catalog when the table is loaded for writing:
the daemon died between a commit and its line, or somebody has repaired the table.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rund_daemon.catalog import Change, Snapshot, shelves
from rund_daemon.documents import table_document
from rund_daemon.model import MetricsTable, TableMark
from rund_daemon.processes import boot_id
from rund_daemon.segments.commit_log import CommitLog, Entry

logger = logging.getLogger(__name__)

# An exchange leaves the lines of what it has replaced. They are dropped when they are most of a log of some size.
_SLACK_BYTES = 1024 * 1024
_BYTES_A_BATCH = 64


def open_log(snapshot: Snapshot, path: Path, table: MetricsTable, mark: TableMark) -> CommitLog | None:
    """Opens a table's log to go on; None if it can't be written, which is no reason to refuse rows."""
    boot = boot_id()
    try:
        log = CommitLog.reopen(path, mark, boot)
        return log or CommitLog.create(path, table_document(table), _account(snapshot, table, mark), boot)
    except OSError as error:
        logger.warning("commit_log_failed", extra={"table": table.uid.hex(), "error": str(error)})
        return None


def account_for_exchange(change: Change, path: Path, table: MetricsTable, mark: TableMark, entry: Entry) -> None:
    """Notes in the log that a sealed segment has replaced others, before they are removed.

    Args:
        change: the transaction, with the exchange in it.
        path: the log.
        table: the table.
        mark: how far it was committed before the exchange.
        entry: the exchange.
    """
    boot = boot_id()
    log: CommitLog | None = None
    try:
        log = CommitLog.reopen(path, mark, boot)
        if log is not None:
            log.append(entry)
        if log is None or log.size > _SLACK_BYTES + 4 * _BYTES_A_BATCH * entry.mark.batches:
            CommitLog.create(path, table_document(table), _account(change, table, entry.mark), boot).close()
    except OSError as error:
        logger.warning("commit_log_failed", extra={"table": table.uid.hex(), "error": str(error)})
    finally:
        if log is not None:
            log.close()


def _account(snapshot: Snapshot, table: MetricsTable, mark: TableMark) -> Entry:
    """All that the catalog knows of a table's commits."""
    if mark == TableMark():
        return Entry(mark)
    return Entry(
        mark,
        refs=[ref for _, ref in snapshot.scan(shelves.BATCHES, table.uid)],
        streams={key[16:].decode(): stream for key, stream in snapshot.scan(shelves.STREAMS, table.uid)},
        sealed=[segment.number for _, segment in snapshot.scan(shelves.SEGMENTS, table.uid) if segment.sealed],
    )

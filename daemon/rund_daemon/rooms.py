"""The rooms of the domain, opened in their order and handed to whoever needs them."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from .access import FileAccess
from .bundles.places import Places
from .catalog import Catalog
from .config import Config
from .errors import Reason, StateError
from .failpoints import failpoint
from .feed import Feed
from .identity import new_uid, now
from .ingest.recovery import recover, remove_unfinished
from .ingest.sealing import Sealer
from .ingest.sink import SegmentSink
from .ingest.streams import Ingest
from .limits import Limits
from .model import Uid
from .operations import Operations
from .processes import boot_id, pid_namespace
from .quotas import Quota, Quotas
from .rebuilding import holds_runs
from .reducing.reductions import Reductions
from .reducing.turns import Share
from .runs import Presence, Runs
from .runs.collecting import TrashCollector
from .runs.liveness import Host, Liveness
from .runs.retirement import Retirement, RunAge
from .runs.snapshots import RunSnapshots
from .runs.trash import Retention
from .segments.compression import Compression
from .segments.layout import Layout, settle_move
from .segments.space import SpaceFloor
from .tables import InputTables

logger = logging.getLogger(__name__)

# Held back for deletions when others fill the disk: thousands of them fit.
_RESERVE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rooms:
    """The parts of the domain, built once and handed to whoever needs them."""

    config: Config
    limits: Limits
    layout: Layout
    feed: Feed
    access: FileAccess
    floor: SpaceFloor
    catalog: Catalog
    sink: SegmentSink
    sealer: Sealer
    ingest: Ingest
    quotas: Quotas
    retention: Retention
    runs: Runs
    collector: TrashCollector
    retirement: Retirement
    tables: InputTables
    operations: Operations
    reductions: Reductions
    places: Places
    snapshots: RunSnapshots
    liveness: Liveness


async def open_rooms(config: Config, access: FileAccess) -> Rooms:
    """Opens the root's catalog and brings its files in line. The root must be locked.

    Raises:
        StateError: the catalog is lost, damaged or of a newer version.
    """
    loop = asyncio.get_running_loop()
    limits, layout, feed = Limits(), Layout(config.root), Feed()
    floor = SpaceFloor(config.root, config.min_free_bytes)
    folders = threading.Lock()

    def move(source: str, destination: str) -> None:
        with folders:
            settle_move(config.root, source, destination)

    def published(tables: Iterable[Uid], ripe: Iterable[Uid]) -> None:
        feed.publish(tables)
        for table in ripe:
            sealer.request(table)

    presence = Presence()
    host = Host(socket.gethostname(), boot_id(), pid_namespace())
    _check_not_lost(layout)
    sink = SegmentSink(layout, floor, now, published)
    catalog = Catalog(layout.catalog, config.map_size, sink, move, min(_RESERVE_BYTES, config.min_free_bytes))
    sealer = Sealer(catalog, layout, sink, floor, Compression(config.seal_compression))
    _recover(catalog, layout)
    sink.start(loop)
    catalog.start(loop)
    retention = Retention(config.trash_days, config.project_trash_days)
    quotas = Quotas(catalog, layout, Quota(config.quota, config.project_quota))
    operations = Operations(catalog, feed, now, new_uid)
    await operations.fail_interrupted()
    return Rooms(
        config=config,
        limits=limits,
        layout=layout,
        feed=feed,
        access=access,
        floor=floor,
        catalog=catalog,
        sink=sink,
        sealer=sealer,
        ingest=Ingest(catalog, limits),
        quotas=quotas,
        retention=retention,
        runs=Runs(catalog, layout, limits, feed, now, new_uid, presence=presence, quotas=quotas, retention=retention),
        collector=TrashCollector(catalog, layout, now, retention, quotas),
        retirement=Retirement(catalog, layout, feed, now, RunAge(config.run_days, config.project_run_days), retention),
        tables=InputTables(catalog, layout, access, floor, feed=feed, clock=now, new_uid=new_uid, quotas=quotas),
        operations=operations,
        reductions=Reductions(
            catalog=catalog,
            layout=layout,
            floor=floor,
            feed=feed,
            clock=now,
            new_uid=new_uid,
            retention=retention,
            compression=Compression(config.seal_compression),
            share=Share(config.reduction_memory, config.reduction_cpus),
            quotas=quotas,
        ),
        places=Places(access, config.min_free_bytes, config.s3_endpoint),
        snapshots=RunSnapshots(catalog, layout, feed, folders),
        liveness=Liveness(catalog, feed, now, host, presence, config.writer_silence_seconds, ended=sealer.request_run),
    )


def _check_not_lost(layout: Layout) -> None:
    if not layout.catalog_data.exists() and holds_runs(layout):
        raise StateError(
            Reason.WRONG_STATE,
            f"{layout.catalog_data} is not there, and the root holds runs. Make it again of their files with "
            f"`rund fsck --rebuild --root {layout.root}`; an empty one would hide them",
        )


def _recover(catalog: Catalog, layout: Layout) -> None:
    recovery = recover(catalog, layout)
    failpoint("recovery.done")
    logger.info(
        "recovered",
        extra={
            "segments": recovery.segments,
            "cut": recovery.cut,
            "cut_bytes": recovery.cut_bytes,
            "damaged": recovery.damaged,
            "unfinished": len(recovery.unfinished),
        },
    )
    # Removing what was being made may take long, and nobody waits for it.
    asyncio.get_running_loop().run_in_executor(None, remove_unfinished, recovery)

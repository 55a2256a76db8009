"""What a fit leaves, and its file: one Arrow IPC file that any reader opens, and no pickle.

A row is a row it was fitted on: its vector, its place in the map, its neighbours and their distances. What there is
once stands in the metadata of the schema, as JSON and as arrays in numpy's format.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rund_daemon.errors import CorruptError

from .parameters import CHUNK_ROWS, Parameters
from .vectors import Indices, Matrix

METADATA_KEY = b"rund:reducer"
ARRAY_KEY = b"rund:reducer:array:"
"""With the array's name behind it; the value is what `numpy.save` writes."""
FORMAT = 1
CELLS_FOUND = "cell_found"
"""The number that says which share of neighbours was found, where not all rows were compared with all."""


@dataclass(frozen=True, slots=True)
class Scaler:
    """Column by column: `(x - mean) / scale`, in float64. A column that never changes has scale 1."""

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, rows: Matrix) -> Scaler:
        """Measures mean and deviation."""
        mean = rows.mean(axis=0, dtype=np.float64)
        deviation = rows.std(axis=0, dtype=np.float64)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def apply(self, rows: Matrix) -> Matrix:
        """Scales rows."""
        return ((rows - self.mean) / self.scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Origin:
    """What made it and how well it turned out."""

    library_versions: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    fit_rows: int = 0
    sampled: bool = False
    quality: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model.

    Attributes:
        kind: what maps with it: `umap`, `pacmap`, or `pca` where there were too few rows.
        parameters: those that were asked for.
        n_neighbors: neighbours that were used.
        vectors: the distinct rows that it was fitted on, after scaling; sorted as they came.
        map: the place of each in the map.
        neighbours: of each row, the rows nearest to it, itself first; k may be 0.
        distances: their distances.
        numbers: what the method needs besides, such as the curve of UMAP.
        arrays: the same, where it is more than a number.
        scaler: what vectors pass first, if anything.
        origin: how it was made.
        chunk_rows: rows that are transformed together.
        path: the file that it was saved to or loaded from, if it was; such a file never changes.
    """

    kind: str
    parameters: Parameters
    n_neighbors: int
    vectors: Matrix
    map: Matrix
    neighbours: Indices
    distances: Matrix
    numbers: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    scaler: Scaler | None = None
    origin: Origin = field(default_factory=Origin)
    chunk_rows: int = CHUNK_ROWS
    path: Path | None = field(default=None, init=False)

    @property
    def width(self) -> int:
        """Numbers of the vectors that it takes."""
        return int(self.vectors.shape[1])


def save(fitted: Fitted, path: Path) -> None:
    """Writes a model. Who calls makes it durable."""
    columns = {
        "vector": fitted.vectors,
        "map": fitted.map,
        "neighbours": fitted.neighbours,
        "distances": fitted.distances,
    }
    arrays = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
        for values in columns.values()
        if values.shape[1]
    ]
    names = [name for name, values in columns.items() if values.shape[1]]
    scaler = fitted.scaler
    document = {
        "format": FORMAT,
        "kind": fitted.kind,
        "parameters": json.loads(fitted.parameters.to_json()),
        "n_neighbors": fitted.n_neighbors,
        "numbers": dict(fitted.numbers),
        "scaler": None if scaler is None else {"mean": scaler.mean.tolist(), "scale": scaler.scale.tolist()},
        "origin": asdict(fitted.origin),
        "chunk_rows": fitted.chunk_rows,
    }
    table = pa.table(dict(zip(names, arrays, strict=True)))
    once = {ARRAY_KEY + name.encode(): _bytes_of(values) for name, values in fitted.arrays.items()}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(document).encode(), **once})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    _remember(fitted, path)


def load(path: Path) -> Fitted:
    """Reads a model; its rows are mapped, not copied.

    Raises:
        CorruptError: the file is no model, or one of a newer version.
        FileNotFoundError: it is gone.
    """
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        metadata = table.schema.metadata or {}
        document = json.loads(metadata[METADATA_KEY])
        if document["format"] != FORMAT:
            raise CorruptError(f"{path} is of format {document['format']}, which this version can't read")
        fitted = _fitted(table, document, _arrays(metadata))
        _remember(fitted, path)
        return fitted
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise CorruptError(f"{path} is no reducer that can be read: {error}") from error


def _fitted(table: pa.Table, document: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Fitted:
    scaler, origin = document["scaler"], document["origin"]
    return Fitted(
        kind=document["kind"],
        parameters=Parameters(**document["parameters"]),
        n_neighbors=document["n_neighbors"],
        vectors=_matrix(table, "vector", np.float32),
        map=_matrix(table, "map", np.float32),
        neighbours=_matrix(table, "neighbours", np.int32),
        distances=_matrix(table, "distances", np.float32),
        numbers=document["numbers"],
        arrays=arrays,
        scaler=None if scaler is None else Scaler(np.asarray(scaler["mean"]), np.asarray(scaler["scale"])),
        origin=Origin(**{**origin, "warnings": tuple(origin["warnings"])}),
        chunk_rows=document["chunk_rows"],
    )


def _matrix(table: pa.Table, name: str, kind: type[Any]) -> npt.NDArray[Any]:
    if name not in table.column_names:
        return np.empty((table.num_rows, 0), dtype=kind)
    lists: Any = table.column(name).combine_chunks()
    flat: npt.NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(table.num_rows, -1).astype(kind, copy=False)


def _remember(fitted: Fitted, path: Path) -> None:
    # Where it lies is no part of what it is, so it is said of the object that there is.
    object.__setattr__(fitted, "path", path)


def _bytes_of(values: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _arrays(metadata: Mapping[bytes, bytes]) -> dict[str, npt.NDArray[Any]]:
    return {
        key.removeprefix(ARRAY_KEY).decode(): np.load(io.BytesIO(value), allow_pickle=False)
        for key, value in metadata.items()
        if key.startswith(ARRAY_KEY)
    }

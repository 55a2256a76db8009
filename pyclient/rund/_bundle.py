"""A run that lies in a bundle: read-only, and without a daemon."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

from ._bundle_documents import RUN_DOCUMENT, run_of
from ._bundle_files import BundleFiles, files_at, folder_url
from ._bundle_rows import BundleRows
from ._errors import WrongStateError
from ._root import PathLike, is_alias
from ._table import Table
from ._types import MetricTableInfo, RunInfo


class Bundle:
    """What stands behind a ``Run`` that lies in a bundle. Whatever needs a daemon is refused."""

    def __init__(self, files: BundleFiles) -> None:
        self._files = files

    def load(self) -> RunInfo:
        """The run as it was when it was copied.

        Raises:
            CorruptDataError: Its document is not as it was written.
        """
        sizes: Counter[str] = Counter()
        for path, entry in self._files.entries.items():
            sizes[path.rpartition("/")[0]] += entry.size
        data = self._files.read(RUN_DOCUMENT).to_pybytes()
        return run_of(data, self._files.url, folder_url(self._files, "bulk_data"), sizes)

    @property
    def read_only(self) -> bool:
        """It can't be changed."""
        return True

    @property
    def daemon(self) -> NoReturn:
        """There is none."""
        raise self._read_only()

    @property
    def writer(self) -> NoReturn:
        """Nobody writes to it."""
        raise self._read_only()

    def info(self, run: RunInfo) -> RunInfo:
        """What was loaded."""
        return run

    basic = info

    def metrics(self, run: RunInfo) -> list[MetricTableInfo]:
        """Its metrics tables."""
        return list(run.metrics)

    def metrics_tables(self, run: RunInfo) -> list[Table]:
        """They, with their rows. A table outside the run is not in the bundle."""
        return [Table(BundleRows(self._files, info)) for info in run.metrics if info.name]

    def bulk_data_url(self, run: RunInfo) -> str:
        """Its folder of side files."""
        return run.bulk_data_url

    def _read_only(self) -> WrongStateError:
        return WrongStateError(
            f"{self._files.url} is a bundle, which is read-only; `rund import bundle {self._files.url}` makes a run of "
            "it that can be changed"
        )


def bundle_at(url: PathLike) -> Bundle | None:
    """The bundle at a URL; None if it is a folder that is none."""
    text = os.fspath(url)
    files = None if is_alias(text) else files_at(text)
    return None if files is None else Bundle(files)

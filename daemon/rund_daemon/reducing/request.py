"""What a reduction is asked for, beyond how to fit."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, replace

from rund_daemon.reducers.parameters import MAX_SEED, Parameters


@dataclass(frozen=True, slots=True)
class ReductionRequest:
    """A reduction of a run's embeddings.

    Attributes:
        parameters: how to fit. Its seed counts only if `seeded` is true; else one is chosen when there is nothing to
            use again.
        seeded: whether the caller named the seed.
        source_column: the column to reduce; empty: all with role EMBEDDING.
        target_column: name of the new column; empty: `<column>_<method>`.
        retain_source: whether the new tables keep the source column.
        delete_sources: whether the source tables go to trash.
        fit_table_url: the table to fit on; empty: the newest.
        foreign_table_url: the input table on whose metrics table to fit; None: one fit for each input table.
    """

    parameters: Parameters
    seeded: bool = False
    source_column: str = ""
    target_column: str = ""
    retain_source: bool = False
    delete_sources: bool = True
    fit_table_url: str = ""
    foreign_table_url: str | None = None

    def target(self, column: str) -> str:
        """The name of the new column."""
        return self.target_column or f"{column}_{self.parameters.method}"

    def with_seed(self) -> ReductionRequest:
        """The same with a seed, if it has none."""
        if self.seeded:
            return self
        return replace(self, parameters=replace(self.parameters, seed=secrets.randbelow(MAX_SEED + 1)))

    def wanted(self) -> bytes:
        """Digest of what a fit is asked for: a reducer that was made for the same one of the same vectors serves."""
        document = json.loads(self.parameters.to_json())
        if not self.seeded:
            document["seed"] = None
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()

"""A reduction from end to end, with real UMAP in the daemon's process for jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund

# After those that compile the same code in their own process: what one has compiled the next one finds.
pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("umap")]


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    folder: Path = daemon().root
    return folder


# The process for jobs lets all others go first: beside many of them it may take its time.
@pytest.mark.timeout(600)
def test_digits_of_all_epochs_lie_in_one_space(root: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    values, labels = load_digits(return_X_y=True)
    values, labels = values[:900].astype(np.float32), labels[:900]
    foreign = rund.Table.from_dict({"label": labels}, "digits", "digits", root_url=root)
    noise = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    with rund.init("digits", "run", root_url=root) as run:
        for epoch in range(3):
            vectors = values + noise * (2 - epoch)
            run.add_metrics({"embedding": vectors}, foreign_table_url=foreign.url, constants={"epoch": epoch})
        vectors = [table.to_arrow().column("embedding") for table in run.metrics_tables]
        run.reduce_embeddings_per_dataset(n_components=2, random_state=1)
    maps = [np.array(table.to_arrow().column("embedding_umap").to_pylist(), np.float32) for table in run.metrics_tables]
    (info,) = rund.connect(root).list_reducers("digits")
    assert info.quality["trustworthiness"] >= 0.95
    assert (info.method, info.random_state, info.fit_row_count, info.warnings) == ("umap", 1, 900, ())
    assert {"umap-learn", "numba", "numpy"} <= set(info.library_versions)
    # One space: what is known of the places of the last epoch tells the digits of the others.
    by_place = KNeighborsClassifier(5).fit(maps[2], labels)
    assert [by_place.score(places, labels) > 0.85 for places in maps] == [True] * 3

    # The model is kept: other runs come into the same space, and the vectors it was fitted on to the same places.
    with rund.init("digits", "later", root_url=root) as later:
        for column in (vectors[2], vectors[0]):
            later.add_metrics({"embedding": column}, foreign_table_url=foreign.url)
        reducer = rund.Reducer.from_names(info.name, "digits", root_url=root)
        assert len(reducer.transform(later)) == 2
    places = [
        np.array(table.to_arrow().column("embedding_umap").to_pylist(), np.float32) for table in later.metrics_tables
    ]
    assert places[0].tobytes() == maps[2].tobytes()
    assert places[1].tobytes() == maps[0].tobytes()

"""What a reduction is asked for, checked without loading any of the libraries that carry it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rund_daemon.errors import InvalidError
from rund_daemon.model import Value

METRICS = ("euclidean", "manhattan", "chebyshev", "cosine", "correlation")
"""Distances whose neighbours are found exactly."""

MAX_FIT_ROWS = 100_000
"""More distinct rows than this are fitted by a sample, and the rest is transformed: neighbours cost their square."""

CHUNK_ROWS = 5_000
"""Rows that are transformed together. The map depends on it a little, so it never changes for a fitted model."""

MAX_SEED = 2**32 - 1

_NUMBER = (int, float)
_OPTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "umap": {
        "n_epochs": (int,),
        "learning_rate": _NUMBER,
        "init": (str,),
        "spread": _NUMBER,
        "set_op_mix_ratio": _NUMBER,
        "local_connectivity": _NUMBER,
        "repulsion_strength": _NUMBER,
        "negative_sample_rate": (int,),
        "a": _NUMBER,
        "b": _NUMBER,
    },
    "pacmap": {"MN_ratio": _NUMBER, "FP_ratio": _NUMBER, "lr": _NUMBER, "num_iters": (int,), "apply_pca": (bool,)},
}
METHODS = tuple(_OPTIONS)


@dataclass(frozen=True, slots=True)
class Parameters:
    """How to fit. `seed` is always set: one that was not asked for is chosen and recorded."""

    method: str = "umap"
    n_components: int = 3
    n_neighbors: int = 15
    metric: str = "euclidean"
    min_dist: float = 0.1
    standard_scaler_normalize: bool = False
    seed: int = 0
    options: Mapping[str, Value] = field(default_factory=dict)
    max_fit_rows: int = MAX_FIT_ROWS

    def to_json(self) -> str:
        """The same text for the same parameters."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Parameters:
        """Reads what `to_json` wrote."""
        return cls(**json.loads(text))


def check_parameters(parameters: Parameters) -> Parameters:
    """Gives them back if they can be carried out.

    Raises:
        InvalidError: a parameter is out of its range, or an option is not one of the method.
    """
    method = parameters.method
    if method not in _OPTIONS:
        raise InvalidError("spec.method", f"{method[:60]!r} is no method; use {' or '.join(METHODS)}")
    _check_range("spec.n_components", parameters.n_components, 1, 100)
    _check_range("spec.n_neighbors", parameters.n_neighbors, 2, 1_000)
    _check_range("spec.random_state", parameters.seed, 0, MAX_SEED)
    if not 0 <= parameters.min_dist <= 1:
        raise InvalidError("spec.min_dist", f"{parameters.min_dist} is not from 0 to 1")
    metrics = METRICS if method == "umap" else METRICS[:2]
    if parameters.metric not in metrics:
        raise InvalidError(
            "spec.metric", f"{method} takes no metric {parameters.metric[:60]!r} here; use {', '.join(metrics)}"
        )
    for name, value in parameters.options.items():
        _check_option(method, name, value)
    return parameters


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidError(name, f"{value} is not from {least} to {most}")


def _check_option(method: str, name: str, value: Value) -> None:
    known = _OPTIONS[method]
    if name not in known:
        raise InvalidError(
            "spec.method_options", f"{method} has no option {name[:60]!r}; it has {', '.join(sorted(known))}"
        )
    # A bool is an int to Python, and no number to a caller.
    if type(value) not in known[name]:
        names = " or ".join(kind.__name__ for kind in known[name])
        raise InvalidError("spec.method_options", f"{name!r} has to be {names}, and {value!r:.60} is not")


def number_of(options: Mapping[str, Value], name: str, default: float) -> float:
    """Gives an option that is a number; the default if it is not there."""
    value = options.get(name)
    return float(value) if isinstance(value, (int, float)) else default

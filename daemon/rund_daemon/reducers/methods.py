"""The ways to make maps, each in a module that is loaded when it is wanted."""

from __future__ import annotations

from typing import Protocol

from .fitted import Fitted
from .libraries import not_installed
from .parameters import Parameters
from .vectors import Mapper, Matrix


class Reducer(Protocol):
    """One way to make maps."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Fits distinct, finite rows."""

    def mapper(self, fitted: Fitted) -> Mapper:
        """Prepares a model for rows to be mapped with it."""


def reducer_of(kind: str) -> Reducer:
    """Gives the reducer of a kind, with its libraries loaded.

    Raises:
        InvalidError: NOT_IMPLEMENTED: they are not installed.
    """
    try:
        match kind:
            case "umap":
                from .umap_method import UmapReducer  # noqa: PLC0415  # takes seconds, and only who fits pays

                return UmapReducer()
            case "pacmap":
                from .pacmap_method import PacmapReducer  # noqa: PLC0415  # the same

                return PacmapReducer()
            case _:
                from .pca import PcaReducer  # noqa: PLC0415  # stands beside the others

                return PcaReducer()
    except ImportError as error:
        raise not_installed(kind, error) from error

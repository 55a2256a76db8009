"""Keeps code that numba compiles for the next process, where its library does not ask for that."""

from __future__ import annotations

from types import ModuleType


def keep_compiled(module: ModuleType, *names: str) -> None:
    """Has numba keep what it compiles of a module's functions, beside the module or in the user's cache.

    It is numba's own cache: it knows the version of the module's file, of numba and the kind of CPU. Functions that are
    gone in another version of the library, and places where nothing can be written, mean that nothing is kept.
    """
    for name in names:
        function = getattr(module, name, None)
        try:
            if function is not None:
                function.enable_caching()
        except (AttributeError, RuntimeError):
            continue

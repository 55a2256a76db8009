"""Imports gRPC with its own fork handlers off, if nobody has imported it yet or said otherwise.

By default gRPC's core stops and restarts its threads in the parent at every fork, or writes a line to stderr when it
can't: noise for each DataLoader worker, and for nothing, because a child of ours never touches gRPC (``fork_guard``).
The core reads the variable once, when it is loaded.
"""

from __future__ import annotations

import importlib
import os
import sys

_VARIABLE = "GRPC_ENABLE_FORK_SUPPORT"

if "grpc" not in sys.modules and _VARIABLE not in os.environ:
    os.environ[_VARIABLE] = "0"
    try:
        importlib.import_module("grpc")
    finally:
        del os.environ[_VARIABLE]

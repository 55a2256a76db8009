"""Build hook: runs protoc over ``protos/`` and nothing else.

The generated modules are written beside their ``.proto`` files and are never committed or edited.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE_ROOT = Path(__file__).parent / "protos"


class ProtocBuildHook(BuildHookInterface[Any]):
    """Makes ``*_pb2.py``, ``*_pb2_grpc.py`` and their type stubs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before every build, editable ones included."""
        generate(SOURCE_ROOT)


def generate(source_root: Path) -> None:
    """Runs the pinned protoc on every ``.proto`` below ``source_root``.

    Raises:
        RuntimeError: protoc refused a file; its own message stands on stderr.
    """
    import grpc_tools
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(source_root)) for path in source_root.rglob("*.proto"))
    services = [name for name in protos if name.endswith("_service.proto")]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    plugins = _plugin_flags()
    includes = [f"-I{source_root}", f"-I{well_known}"]
    with tempfile.TemporaryDirectory(dir=source_root) as made:
        runs = [
            [*includes, *plugins, f"--python_out={made}", f"--mypy_out=quiet:{made}", *protos],
            [*includes, *plugins, f"--grpc_python_out={made}", f"--mypy_grpc_out=quiet:{made}", *services],
        ]
        for arguments in runs:
            if protoc.main(["protoc", *arguments]) != 0:
                raise RuntimeError(f"protoc failed on {source_root}")
        for new in sorted(Path(made).rglob("*_pb2*")):
            _put(new, source_root / new.relative_to(made))


def _put(new: Path, old: Path) -> None:
    """Replaces a file in one step, and only if it differs: other processes may be reading it."""
    if not old.exists() or old.read_bytes() != new.read_bytes():
        new.replace(old)


def _plugin_flags() -> list[str]:
    # protoc looks for its plugins on PATH only; without activation they lie beside the interpreter.
    beside = str(Path(sys.executable).parent)
    names = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    found = {name: shutil.which(name) or shutil.which(name, path=beside) for name in names}
    return [f"--plugin={name}={path}" for name, path in found.items() if path]


if __name__ == "__main__":
    generate(SOURCE_ROOT)

"""The environment of each tracker, `.venvs/bench-*`: made when it is missing, and never that of rund."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from peers.registry import Entry

FOLDER = Path(__file__).parent.parent / ".venvs"
INSTALL_TIMEOUT_S = 900


class NotInstalledError(Exception):
    """It can't be had here; the text is the reason that is shown."""


def python_of(entry: Entry) -> Path:
    """The interpreter to run it with; installs what is missing.

    Raises:
        NotInstalledError: pip does not get it.
    """
    if not entry.environment:
        return Path(sys.executable)
    folder = FOLDER / f"bench-{entry.environment}"
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = "\n".join(entry.requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {', '.join(entry.requirements)} into {folder.name}", flush=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *entry.requirements]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines()
        raise NotInstalledError(f"it does not install: {lines[-1] if lines else error}") from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalledError(f"it does not install within {INSTALL_TIMEOUT_S} s") from error
    stamp.write_text(wanted)
    return python


def version_of(entry: Entry, python: Path) -> str:
    """The version that is measured."""
    if not entry.environment:
        return metadata.version(entry.package)
    ask = f"from importlib.metadata import version; print(version({entry.package!r}))"
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def variables(folder: Path) -> dict[str, str]:
    """What a tracker finds in its environment: nothing of the user's settings, and no way to a service."""
    mine = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return mine | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "GIT_PYTHON_REFRESH": "quiet",
        "DO_NOT_TRACK": "1",
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "TRACKIO_DIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "AIM_UI_TELEMETRY_ENABLED": "0",
        "__AIM_TELEMETRY_ENABLED__": "0",
    }

"""`python -m rund_daemon serve`: runs a daemon until it is told to stop.

The command `rund serve` ends up here too. The first SIGTERM or SIGINT drains; a second one exits now.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

from . import logs
from .config import Config, ConfigError, from_process
from .errors import CorruptError, StateError
from .root import RootLockedError, RootUnusableError, report_failure, take_root
from .server import CannotListenError, build

logger = logging.getLogger(__name__)


class ExitCode(enum.IntEnum):
    """What `rund serve` exits with."""

    STOPPED = 0
    USAGE = 2
    ROOT_LOCKED = 3
    ROOT_UNUSABLE = 4
    CANNOT_LISTEN = 5
    INTERNAL = 70


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the flags of `serve` and serves."""
    parser = argparse.ArgumentParser(prog="python -m rund_daemon")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="run a daemon until it is told to stop")
    command.add_argument("--root", help="folder that the daemon owns")
    command.add_argument("--listen", action="append", help="unix:PATH or tcp:HOST:PORT; may be given again")
    command.add_argument("--grace-seconds", help="how long a stop may take")
    command.add_argument("--writer-silence-seconds", help="how long a writer on another host may be silent")
    command.add_argument("--log-level", help="DEBUG, INFO, WARNING or ERROR")
    flags = vars(parser.parse_args(arguments))
    del flags["command"]
    return serve(flags)


def serve(flags: Mapping[str, object]) -> int:
    """Serves with settings from flags, variables and file; gives the exit code.

    Args:
        flags: settings by name; None leaves one to the variables and the file.
    """
    try:
        config, _ = from_process(flags)
    except ConfigError as error:
        return _fail(None, ExitCode.USAGE, str(error))
    logs.configure(config.log_level)
    # A page that can't be read ends the process by a signal: then this says where.
    faulthandler.enable()
    try:
        lock = take_root(config.root)
    except RootLockedError as error:
        # The root is another daemon's: its error file is not ours to write.
        return _fail(None, ExitCode.ROOT_LOCKED, str(error))
    except RootUnusableError as error:
        return _fail(config, ExitCode.ROOT_UNUSABLE, str(error))
    try:
        return asyncio.run(_serve(config))
    except ConfigError as error:
        return _fail(config, ExitCode.USAGE, str(error))
    except CannotListenError as error:
        return _fail(config, ExitCode.CANNOT_LISTEN, str(error))
    except (StateError, CorruptError) as error:
        return _fail(config, ExitCode.ROOT_UNUSABLE, f"the catalog can't be opened: {error}")
    except Exception as error:
        logger.exception("daemon_failed")
        return _fail(config, ExitCode.INTERNAL, f"the daemon failed: {error!r}")
    finally:
        lock.release()


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(ExitCode.STOPPED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    _raise_file_limit()
    daemon = await build(config)
    await daemon.start()
    # Modules last as long as the daemon. If each full collection looked through them, it would hold up calls for 15 ms.
    gc.freeze()
    await stop.wait()
    await daemon.stop()
    return ExitCode.STOPPED


def _raise_file_limit() -> None:
    """Each open segment is a descriptor; the soft limit of 1,024 is history."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fail(config: Config | None, code: ExitCode, message: str) -> int:
    sys.stderr.write(f"rund: {message}\n")
    if config is not None:
        report_failure(config.root, message)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Settings and where they come from, addresses and who may be let near, and the root that is taken."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from rund_daemon.config import Config, ConfigError, default_root, load
from rund_daemon.listeners import Listener, default_socket, listeners_of, prepare_socket
from rund_daemon.root import (
    RootLockedError,
    RootUnusableError,
    file_system_of,
    publish_address,
    report_failure,
    take_root,
    withdraw_address,
)

# --- config ---


def test_flags_come_before_variables_before_the_file_before_defaults(tmp_path: Path) -> None:
    (tmp_path / "rund.toml").write_text('grace_seconds = 3\nlog_level = "debug"\nmin_free_bytes = "1 MiB"\n')
    environment = {"RUND_LOG_LEVEL": "warning", "RUND_GRACE_SECONDS": "4"}
    config, settings = load({"root": str(tmp_path), "grace_seconds": "5", "listen": None}, environment)
    assert (config.grace_seconds, config.log_level, config.min_free_bytes) == (5.0, "WARNING", 1 << 20)
    assert {setting.name: setting.source for setting in settings} == {
        "root": "flag",
        "listen": "default",
        "tls_certificate": "default",
        "tls_key": "default",
        "grace_seconds": "flag",
        "writer_silence_seconds": "default",
        "min_free_bytes": "file",
        "seal_compression": "default",
        "map_size": "default",
        "trash_days": "default",
        "project_trash_days": "default",
        "run_days": "default",
        "project_run_days": "default",
        "quota": "default",
        "project_quota": "default",
        "reduction_memory": "default",
        "reduction_cpus": "default",
        "url_prefixes": "default",
        "s3_endpoint": "default",
        "aliases": "default",
        "log_level": "environment",
    }


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"RUND_ROOT": "/data/rund"}, "/data/rund"),
        ({"XDG_DATA_HOME": "/data"}, "/data/rund"),
        ({"RUND_ROOT": "", "XDG_DATA_HOME": ""}, "~/.local/share/rund"),
    ],
)
def test_the_root_that_is_used_when_none_is_named(environment: dict[str, str], root: str) -> None:
    assert default_root(environment) == Path(root).expanduser()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000000", 10**6),
        ("64MiB", 64 << 20),
        ("2 GB", 2 * 10**9),
        ("1.5kib", 1536),
        ("7b", 7),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(text: str, size: int, tmp_path: Path) -> None:
    config, _ = load({"root": str(tmp_path)}, {"RUND_MIN_FREE_BYTES": text})
    assert config.min_free_bytes == size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIN_FREE_BYTES", "-1"),
        ("MIN_FREE_BYTES", "64XB"),
        ("MIN_FREE_BYTES", "inf"),
        ("MIN_FREE_BYTES", "1e999"),
        ("MIN_FREE_BYTES", "nan"),
        ("MIN_FREE_BYTES", "MiB"),
        ("GRACE_SECONDS", "nan"),
        ("GRACE_SECONDS", "-1"),
        ("GRACE_SECONDS", "soon"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_setting_is_named_with_its_source(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"RUND_{name}.*{name.lower()}"):
        load({"root": str(tmp_path)}, {f"RUND_{name}": value})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("grace = 3", "'grace' is no setting"),
        ("root = '/x'", "'root' is no setting"),
        ("listen = 5", "list of texts"),
        ("grace_seconds = true", "grace_seconds"),
        ("writer_silence_seconds = 0", "writer_silence_seconds"),
        ('seal_compression = "lz4"', "seal_compression"),
        ("trash_days = -1", "trash_days"),
        ("project_trash_days = 3", "table of PROJECT"),
        ("run_days = -1", "run_days"),
        ('quota = "much"', "quota"),
        ("project_quota = 3", "table of PROJECT"),
        ('project_quota = {p = "3 parsecs"}', "project_quota"),
        ('reduction_memory = "much"', "reduction_memory"),
        ("reduction_cpus = -1", "reduction_cpus"),
        ("aliases = ['a']", "table of NAME"),
        ("x = ", "rund.toml"),
        ("\xff", "rund.toml"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "rund.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=says):
        load({"root": str(tmp_path)}, {})


def test_lists_and_aliases(tmp_path: Path) -> None:
    (tmp_path / "rund.toml").write_text('listen = ["unix:/a", "tcp:localhost:1"]\n[aliases]\nDATA = "/data"\n')
    config, _ = load({"root": str(tmp_path)}, {"RUND_URL_PREFIXES": "/a, /b,"})
    assert config.listen == ("unix:/a", "tcp:localhost:1")
    assert config.url_prefixes == ("/a", "/b")
    assert config.aliases == {"DATA": "/data"}


# --- listeners ---


def test_a_socket_lies_where_its_path_fits(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    assert default_socket(Path("/root"), {"XDG_RUNTIME_DIR": str(run)}).parent == run / "rund"
    assert default_socket(Path("/root"), {"XDG_RUNTIME_DIR": "/nowhere"}) == Path("/root/run/daemon.sock")
    deep = default_socket(Path("/" + "x" * 120), {})
    assert len(os.fsencode(deep)) <= 107
    assert str(os.getuid()) in deep.parts[-2]
    assert default_socket(Path("/" + "x" * 120), {}) != default_socket(Path("/" + "y" * 120), {})


def test_addresses_that_are_taken() -> None:
    config = Config(Path("/root"), listen=("unix:/a/b.sock", "unix:///a/c.sock", "tcp:127.0.0.1:80", "tcp:[::1]:0"))
    unix, other, tcp, six = listeners_of(config, {})
    assert (unix.target, unix.socket) == ("unix:/a/b.sock", Path("/a/b.sock"))
    assert other.socket == Path("/a/c.sock")
    assert (tcp.target, tcp.socket, tcp.secure) == ("127.0.0.1:80", None, False)
    assert six.target == "[::1]:0"
    assert tcp.bound_to(80) == tcp
    assert six.bound_to(4711).target == "[::1]:4711"
    assert unix.bound_to(1) == unix
    open_to_all = Config(Path("/root"), listen=("tcp:0.0.0.0:1",), tls_certificate="c", tls_key="k")
    assert listeners_of(open_to_all, {}) == (Listener("0.0.0.0:1", None, secure=True),)


@pytest.mark.parametrize(
    "address",
    ["unix:relative", "unix:/" + "x" * 120, "tcp:127.0.0.1", "tcp::80", "tcp:127.0.0.1:http", "tcp:127.0.0.1:65536",
     "tcp:0.0.0.0:80", "tcp:192.168.1.1:80", "tcp:example.org:80", "http://localhost", ""],
)  # fmt: skip
def test_addresses_that_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        listeners_of(Config(Path("/root"), listen=(address,)), {})


def test_a_stale_socket_makes_way_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "run" / "daemon.sock"
    prepare_socket(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    prepare_socket(path)
    assert not path.exists()


# --- the root ---


def test_a_root_has_one_owner_and_the_second_is_told_who(tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    lock = take_root(root)
    assert root.stat().st_mode & 0o777 == 0o700
    with pytest.raises(RootLockedError, match="starting or stopping"):
        take_root(root)
    publish_address(root, {"pid": 42, "address": "unix:/x"})
    with pytest.raises(RootLockedError, match="pid 42, listening on unix:/x"):
        take_root(root)
    lock.release()
    take_root(root).release()
    assert (root / "daemon.lock").exists(), "the file is never removed"


def test_the_address_is_written_whole_and_withdrawn(tmp_path: Path) -> None:
    report_failure(tmp_path, "it failed")
    assert (tmp_path / "daemon.error").read_text() == "it failed\n"
    publish_address(tmp_path, {"pid": 1})
    assert json.loads((tmp_path / "daemon.json").read_text()) == {"pid": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.json"]
    withdraw_address(tmp_path)
    withdraw_address(tmp_path)
    report_failure(tmp_path / "nowhere", "it failed")


def test_a_root_that_is_a_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    with pytest.raises(RootUnusableError, match="--root"):
        take_root(tmp_path / "root")


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
tmpfs /home/me/local tmpfs rw 0 0
share /mnt/my\\040share cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data", "ext4"),
        ("/home/me", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", "ext4"),
        ("/home/me/local/x", "tmpfs"),
        ("/mnt/my share/x", "cifs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind

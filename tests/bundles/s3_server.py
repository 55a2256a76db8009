"""A real S3 server of its own: SeaweedFS, on loopback alone, with telemetry off."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

START_TIMEOUT_S = 60.0
BUCKET = "runs"
_KEY, _SECRET = "the-key", "the-secret"


@dataclass(frozen=True)
class S3Server:
    """A server that runs, with a bucket."""

    endpoint: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RUND_S3_ENDPOINT": self.endpoint,
        }

    @property
    def files(self) -> fs.S3FileSystem:
        """Its files, as pyarrow sees them."""
        host = self.endpoint.removeprefix("http://")
        return fs.S3FileSystem(
            access_key=_KEY,
            secret_key=_SECRET,
            endpoint_override=host,
            scheme="http",
            region="us-east-1",
            connect_timeout=20,
            request_timeout=60,
        )

    def names(self, folder: str = "") -> list[str]:
        """What lies in the bucket, below a folder."""
        selector = fs.FileSelector(f"{BUCKET}/{folder}".rstrip("/"), recursive=True, allow_not_found=True)
        infos = self.files.get_file_info(selector)
        return sorted(info.path.removeprefix(f"{BUCKET}/") for info in infos if info.type == fs.FileType.File)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Runs one with its files in a folder."""
    folder.mkdir(parents=True)
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    identity = {"name": "tests", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ("master", "volume", "filer", "s3")
    free = _free_ports(2 * len(names))
    ports, grpc_ports = (dict(zip(names, half, strict=True)) for half in (free[: len(names)], free[len(names) :]))
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        f"-dir={folder}",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # Relative, and so in the server's own folder: paths of sockets are short.
        "-s3.localSocket=s3.sock",
        "-filer.localSocket=filer.sock",
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={port}" for name, port in grpc_ports.items()),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        server = S3Server(f"http://127.0.0.1:{ports['s3']}")
        _make_bucket(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
        # It leaves sockets there wherever it is told to work, named by port.
        for port in (*ports.values(), *grpc_ports.values()):
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)


def _make_bucket(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            files = fs.S3FileSystem(
                access_key=_KEY,
                secret_key=_SECRET,
                endpoint_override=server.endpoint.removeprefix("http://"),
                scheme="http",
                region="us-east-1",
                allow_bucket_creation=True,
                connect_timeout=1,
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
            )
            files.create_dir(BUCKET)
            with files.open_output_stream(f"{BUCKET}/ready") as file:
                file.write(b"ready")
            files.delete_file(f"{BUCKET}/ready")
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]

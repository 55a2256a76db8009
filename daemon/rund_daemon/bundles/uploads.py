"""Ends uploads in parts that a killed daemon has left in an S3 store: they are in no listing, and are paid for.

pyarrow.fs begins and completes such uploads, and can neither list nor end them. So these two requests are made here,
signed as AWS's documentation of "Signature Version 4" says, with keys from the environment or the credentials file.
Without keys there, as with the role of an instance, they are left to the bucket's own rule.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlsplit

_TIMEOUT_SECONDS = 10.0
_UPLOAD = re.compile(r"<Upload>(.*?)</Upload>", re.DOTALL)
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class S3Keys:
    """What requests are signed with."""

    key: str
    secret: str
    token: str
    region: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> S3Keys | None:
        """The keys of the environment, or of the profile in the credentials file; None if there are none."""
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        found: Mapping[str, str] = {name.lower(): value for name, value in environment.items()}
        if "aws_access_key_id" not in found:
            path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
            file = configparser.ConfigParser(interpolation=None)
            try:
                file.read(Path(path).expanduser())
            except (configparser.Error, OSError, UnicodeDecodeError):
                return None
            profile = environment.get("AWS_PROFILE", "default")
            found = dict(file.items(profile)) if file.has_section(profile) else {}
        key, secret = found.get("aws_access_key_id", ""), found.get("aws_secret_access_key", "")
        return cls(key, secret, found.get("aws_session_token", ""), region) if key and secret else None


@dataclass(frozen=True, slots=True)
class S3Uploads:
    """Uploads in parts of one bucket."""

    endpoint: str
    bucket: str
    keys: S3Keys

    @classmethod
    def of(cls, endpoint: str, bucket: str, environment: Mapping[str, str]) -> S3Uploads | None:
        """Those of a bucket; None if there are no keys."""
        keys = S3Keys.of(environment)
        if keys is None:
            return None
        given = endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        url = given or f"https://s3.{keys.region}.amazonaws.com"
        return cls(url if "://" in url else f"https://{url}", bucket, keys)

    def begun(self, prefix: str) -> list[tuple[str, str]]:
        """Keys and ids of the uploads below a prefix that are neither complete nor ended.

        Raises:
            OSError: the store refuses, or can't be reached.
        """
        answer = self._request("GET", "", {"prefix": prefix, "uploads": ""})
        found = [(_text(item, "Key"), _text(item, "UploadId")) for item in _UPLOAD.findall(answer)]
        return [(key, upload) for key, upload in found if key.startswith(prefix)]

    def end(self, prefix: str) -> int:
        """Ends them and gives their number. Raises OSError."""
        uploads = self.begun(prefix)
        for key, upload in uploads:
            self._request("DELETE", f"/{key}", {"uploadId": upload})
        return len(uploads)

    def _request(self, method: str, key: str, query: Mapping[str, str]) -> str:
        path = quote(f"{urlsplit(self.endpoint).path.rstrip('/')}/{self.bucket}{key}", safe="/~")
        asked = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='~')}" for name in sorted(query))
        host = urlsplit(self.endpoint).netloc
        headers = _signed(method, host, path, asked, self.keys, datetime.now(UTC))
        url = f"{urlsplit(self.endpoint).scheme}://{host}{path}?{asked}"
        request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310  # the scheme is checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  # likewise
                content: bytes = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:  # nothing is there
                return ""
            raise
        return content.decode(errors="replace")


def _signed(method: str, host: str, path: str, query: str, keys: S3Keys, time: datetime) -> dict[str, str]:
    stamp = time.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": stamp}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{_EMPTY_SHA256}"
    scope = f"{stamp[:8]}/{keys.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={keys.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": credential}


def _text(item: str, name: str) -> str:
    match = re.search(f"<{name}>(.*?)</{name}>", item, re.DOTALL)
    return unescape(match[1]) if match else ""

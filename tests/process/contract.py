"""What the .proto files say of errors: each RPC's comment lists the reasons that it may fail with."""

from __future__ import annotations

import re
from pathlib import Path

import rund_pb.v1
from rund_pb.v1 import error_reason_pb2

PROTOS = Path(next(iter(rund_pb.v1.__path__)))

# Said once for all methods, in the comments of the services.
ANY_METHOD = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "DRAINING", "INTERNAL"})
WRITING_METHOD = frozenset({"NO_SPACE", "OVER_LIMIT", "STORAGE_FAILED"})

REASONS = frozenset(error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name) - {"ERROR_REASON_UNSPECIFIED"}
_COMMENTED_RPC = re.compile(r"((?:^ *//.*\n)+) *rpc (\w+)\(", re.MULTILINE)
_CODE_WITH_REASONS = re.compile(r"\b[A-Z_]{5,} \(([A-Z_, ]+)[),]")
_COMMENTED_REASON = re.compile(r"// ([A-Z_]+): .*\n(?: *//.*\n)* *ERROR_REASON_(\w+) =")


def listed_reasons() -> dict[str, frozenset[str]]:
    """The reasons that each RPC's own comment lists."""
    listed: dict[str, frozenset[str]] = {}
    for path in sorted(PROTOS.glob("*_service.proto")):
        for comment, rpc in _COMMENTED_RPC.findall(path.read_text()):
            listed[rpc] = _reasons_in(comment)
    return listed


def codes() -> dict[str, str]:
    """The gRPC code of each reason, as error_reason.proto says it."""
    return {reason: code for code, reason in _COMMENTED_REASON.findall((PROTOS / "error_reason.proto").read_text())}


def _reasons_in(comment: str) -> frozenset[str]:
    text = re.sub(r"\n *// ?", " ", comment)
    groups = _CODE_WITH_REASONS.findall(text)
    words = {word.strip() for group in groups for word in group.split(",")}
    # A code may stand alone where its reason has the same name.
    bare = set(re.findall(r"[A-Z_]{5,}", text.partition("Errors:")[2]))
    return frozenset(word for word in words | bare if f"ERROR_REASON_{word}" in REASONS)

"""Say which bundle, and which network, something was made of: for what is told to another machine."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from acl_runtime.bundle.bundle import MANIFEST, Bundle
from acl_runtime.files.atomic import sha256
from acl_runtime.files.onnx_files import external_files


def bundle_sha256(bundle: Bundle) -> str:
    """The hash of the bundle's manifest, which has those of all files: another calibration makes it another bundle."""
    return sha256(bundle.path / MANIFEST)


def network_sha256(bundle: Bundle) -> str:
    """The hash of the bundle's graphs with their weights; the same whatever the bundle's thresholds are."""
    manifest = bundle.manifest
    sources: dict[str, str] = {}
    for arithmetic in manifest.arithmetics():
        sources |= hash_sources(bundle, manifest.graph_file(arithmetic))
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sources.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_sources(bundle: Bundle, graph: str) -> dict[str, str]:
    """The sha256 of a graph and its weights, by file name; the first is the graph.

    Args:
        bundle: A checked bundle.
        graph: ONNX file of it.
    """
    folder = PurePosixPath(graph).parent
    weights = sorted((folder / name).as_posix() for name in external_files(bundle.path / graph))
    return {name: bundle.manifest.files[name].sha256 for name in (graph, *weights)}

"""A certificate of its own for a peer that encrypts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def certified(folder: Path, name: str = "DNS:localhost") -> tuple[Path, Path]:
    """Its certificate for a name, such as IP:127.0.0.1, and the key; the test is skipped where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    certificate, key = folder / "tls.pem", folder / "tls.key"
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    request += ["-subj", f"/CN={name.partition(':')[2]}", "-addext", f"subjectAltName={name}"]
    command = [*request, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return certificate, key

"""What a measurement ran on: without it a number says nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from acl_runtime.backends.host import cpu_model

PACKAGES = ("numpy", "opencv-python-headless", "scipy", "torch")


def describe_machine() -> dict[str, str]:
    """The processor, its cores, and the versions that matter, each as text."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a box has no PyTorch, and may have another OpenCV
        return "none"


def machine_line(machine: dict[str, str]) -> str:
    """The machine in one line of Markdown."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *PACKAGES))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} when it began; "
        f"{machine['system']}; {versions}"
    )

"""What a program may import from the package, and that importing it is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import acl_runtime


def test_exported_names() -> None:
    assert acl_runtime.__all__ == [
        *(
            "BadFrame",
            "Bundle",
            "Detector",
            "Frame",
            "Region",
            "Rule",
            "Session",
            "Stream",
            "Tiling",
            "Verdict",
        ),
        *("calibrate_bundle", "draw_overlay", "list_sources", "load_bundle", "scale_map"),
    ]
    assert acl_runtime.__all__ == sorted(acl_runtime.__all__)
    for name in acl_runtime.__all__:
        exported = getattr(acl_runtime, name)
        assert exported.__doc__, name
        assert name in dir(acl_runtime)
        assert exported.__name__ == name


def test_what_is_not_exported_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Classifier'"):
        _ = acl_runtime.Classifier


@pytest.mark.parametrize("name", acl_runtime.__all__)
def test_no_name_needs_what_only_the_command_line_does(name: str) -> None:
    code = (
        f"from acl_runtime import {name}; import sys; print({{'rich', 'typer', 'torch'}} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"

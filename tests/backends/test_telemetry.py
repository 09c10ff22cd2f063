"""Nothing leaves the box, and nothing is written at home: not by ONNX Runtime, OpenVINO or anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alone import Alone, run_alone, why_not
from folders import draw_category
from graphs import write_tiny_bundle
from parts import draw_parts

ACL = (sys.executable, "-m", "acl_runtime.cli")
STOPPED = ("timeout", "--preserve-status", "--signal=TERM", "6")  # ends what would run for ever
REASON = why_not()
alone = pytest.mark.skipif(bool(REASON), reason=REASON or "commands can be run alone")


def assert_silent(found: Alone, *, home: tuple[str, ...] = ()) -> None:
    """All commands succeeded, asked nothing, and left nothing at home but what lies below `home`."""
    assert set(found.codes) == {0}, found.output
    assert (found.names, found.connections) == ([], [])
    assert [file for file in found.home if not file.startswith(home or ("\0",))] == []


@alone
def test_the_sandbox_notices_who_asks_and_who_writes(tmp_path: Path) -> None:
    code = (
        "import socket, pathlib; socket.create_connection(('example.com', 443));"
        "pathlib.Path.home().joinpath('.id').write_text('1')"
    )
    found = run_alone([[sys.executable, "-c", code]], folder=tmp_path)
    assert (set(found.names), found.connections, found.home) == ({"example.com"}, [443], [".id"])


@alone
def test_the_box_asks_nothing_and_writes_nothing_at_home(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    parts = draw_parts(tmp_path / "parts", good=20, defective=2)
    program = "import sys; from acl_runtime import Detector; import numpy as np\n"
    program += f"Detector({str(bundle)!r}, backend='openvino')(np.zeros((60, 60), np.uint8))\n"
    program += "import onnxruntime, openvino, openvino.tools.ovc"  # as a notebook might go on
    commands = [
        [*ACL, "calibrate", str(bundle), str(parts / "good"), "--max-overkill", "30%"],
        [*ACL, "run", str(bundle), str(parts), "--json", str(tmp_path / "run.json")],
        [*STOPPED, *ACL, "watch", str(bundle), str(parts), "--json", str(tmp_path / "watch.json")],
        [*ACL, "bench", str(bundle), "--backend", "onnxruntime", "--seconds", "0"],
        [sys.executable, "-c", program],
    ]
    assert_silent(run_alone(commands, folder=tmp_path))


@pytest.mark.large
@alone
def test_the_workshop_asks_nothing_either(tmp_path: Path) -> None:
    draw_category(tmp_path / "data" / "thing")
    bundle, data = str(tmp_path / "bundle"), str(tmp_path / "data")
    tiny = ["--backbone", "tiny"]
    demo = "from pathlib import Path; from acl_export.demo import DemoConfig, run_demo\n"
    demo += "products = {'learning': ('wood', 'nut'), 'unseen': ('egg', 'leather'), 'per_family': 3, 'per_unseen': 3}\n"
    demo += "config = DemoConfig(**products, per_calibration=20, epochs=1, timing_s=0, web=None)\n"
    demo += "run_demo(Path('demo'), config, progress=lambda *_: None, say=print)"
    commands = [
        [*ACL, "train", data, "-o", "prompts.safetensors", *tiny, "--epochs", "1", "--cache", "cache"],
        [*ACL, "export", "prompts.safetensors", "-o", bundle, *tiny, "--int8"],
        [*ACL, "eval", bundle, data],
        [*ACL, "bench", bundle, "--backend", "onnxruntime,openvino", "--seconds", "0"],
        [*ACL, "doctor", bundle],
        [*ACL, "info", bundle],
        [sys.executable, "-c", demo],
    ]
    assert_silent(run_alone(commands, folder=tmp_path, wait_s=20), home=(".cache/anomalyclip",))


def test_what_the_user_decided_stands() -> None:
    code = "import os, sys, acl_runtime, json; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for own, expected in (("0", "0"), (None, "1")):
        env = {} if own is None else {"ORT_DISABLE_TELEMETRY": own}
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**_environment(), **env},
        )
        assert done.stdout.strip() == expected


@pytest.mark.parametrize("package", ["acl_runtime", "acl_train", "acl_export", "acl_export.commands.export"])
def test_every_package_decides_it_first(package: str) -> None:
    code = f"import os, sys, {package}; print(os.environ.get('ORT_DISABLE_TELEMETRY'), 'onnxruntime' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert done.stdout.split() == ["1", "False"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

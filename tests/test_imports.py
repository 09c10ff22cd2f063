"""Imports point to the leaner package, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["acl_runtime", "acl_train", "acl_export"]  # each may import itself and those before it
OUTPUTS = {"pymodbus", "paho", "asyncua", "snap7", "starlette", "uvicorn", "prometheus_client"}
HEAVY = {"numpy", "cv2", "PIL", "torch", "onnxruntime", "onnx", "open_clip", "scipy", "safetensors"}
HEAVY |= OUTPUTS | {"pyarrow", "fsspec", "ray"}
COMMANDS = ("acl_train.commands", "acl_export.commands.")  # light: see test_help_is_instant
RUNTIME = {"numpy", "cv2", "PIL", "typer", "rich", "packaging", "acl_runtime"}
BACKENDS = {  # modules that may import each
    "onnxruntime": {"onnx_session.py"},
    "tensorrt": {"library.py"},
    "cuda": {"cuda.py"},
    "openvino": {"openvino_session.py"},
    "cykooz_resizer": {"fast_resize.py"},
    "pypylon": {"basler.py"},
    "pymodbus": {"modbus_server.py", "modbus_client.py"},
    "paho": {"mqtt.py"},
    "asyncua": {"opcua.py"},
    "snap7": {"s7.py"},
    "starlette": {"page_answers.py", "page_posts.py", "page_routes.py"},
    "uvicorn": {"page_server.py"},
    "prometheus_client": {"page_metrics.py"},
    "pyarrow": {"parquet.py"},
    "fsspec": {"urls.py"},
    "ray": {"ray_pool.py"},
}
QUANTIZER = ROOT / "acl_export" / "quantize.py"  # uses ONNX Runtime's, where the workshop is
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
CLI = ROOT / "acl_runtime" / "cli.py"


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after running `code`."""
    report = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Module of every import, and whether it waits: inside a function, or for the type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) or is_for_types(node)]
    waiting = {id(node) for block in blocks for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in waiting) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", id(node) in waiting


def test_the_package_itself_is_light() -> None:
    assert not loaded_after("import acl_runtime") & HEAVY


def test_help_is_instant() -> None:
    show = "from typer.testing import CliRunner; from acl_runtime.cli import app; CliRunner()"
    assert not loaded_after("import acl_runtime.cli") & HEAVY
    assert not loaded_after(f"{show}.invoke(app, ['--help']); {show}.invoke(app, ['run', '--help'])") & HEAVY


def test_the_detector_needs_no_workshop() -> None:
    loaded = loaded_after(
        "import acl_runtime.detection.detector, acl_runtime.inspection.run, acl_runtime.backends.onnx_session"
    )
    assert not loaded & {"torch", "onnx", "open_clip", "scipy", "safetensors", "acl_train", "acl_export"}


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_the_leaner_package(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    richer = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = [(module, waits) for module, waits in imports(path) if top(module) in richer]
    if path == CLI:
        wrong = [(module, waits) for module, waits in wrong if not module.startswith(COMMANDS)]
    assert not wrong


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.is_relative_to(ROOT / "acl_runtime")], ids=lambda path: path.name
)
def test_the_runtime_needs_only_what_the_box_has(path: Path) -> None:
    allowed = (
        RUNTIME | set(sys.stdlib_module_names) | {name for name in BACKENDS if path.name in BACKENDS[name]}
    )
    if path == CLI:
        allowed |= set(PACKAGES)
    assert {top(module) for module, _ in imports(path)} - {
        "tomllib",
        "tomli",
    } <= allowed  # the latter on 3.10 only


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_backend_is_imported_in_the_one_module_named_after_it(path: Path) -> None:
    names = {top(module) for module, _ in imports(path)}
    wrong = {name for name in names if name in BACKENDS and path.name not in BACKENDS[name]}
    assert wrong == ({"onnxruntime"} if path == QUANTIZER else set())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "acl_runtime" / "evaluation").glob("*.py")), ids=lambda path: path.name
)
def test_an_evaluation_knows_nothing_of_reports(path: Path) -> None:
    assert not [module for module, _ in imports(path) if module.startswith("acl_runtime.report")]


ROOMS = (  # of the runtime, from the ground up: a room imports those before it; of one level none the other
    {"files"},
    {"text"},
    {"bundle"},
    {"scoring"},
    {"images", "backends"},
    {"detection", "sources", "data", "doctor"},
    {"web", "outputs", "calibration"},
    {"inspection", "evaluation", "archive"},
    {"bench", "report"},
    {"commands"},
    {"cli"},
)
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
TOP = ROOT / "acl_runtime"


def room(path: Path) -> str:
    """The room that a file of the runtime lies in."""
    return path.relative_to(TOP).parts[0].removesuffix(".py")


def test_all_but_the_face_and_the_command_lie_in_rooms() -> None:
    assert {path.name for path in TOP.glob("*.py")} == {"__init__.py", "cli.py"}
    assert {path.name for path in TOP.iterdir() if path.is_dir() and path.name != "__pycache__"} <= set(
        LEVELS
    )


@pytest.mark.parametrize(
    "path", [path for path in sorted(TOP.rglob("*.py")) if path.parent != TOP], ids=lambda path: path.stem
)
def test_no_import_runs_up_the_house(path: Path) -> None:
    used = {module.split(".")[1] for module, _ in imports(path) if module.startswith("acl_runtime.")}
    assert not {each for each in used - {room(path)} if LEVELS[each] >= LEVELS[room(path)]}


DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "cuda": "cuda-bindings",
    "tensorrt": "tensorrt-cu12",
    "tensorrt_rtx": "tensorrt-rtx-cu13-bindings",
    "open_clip": "open_clip_torch",
    "paho": "paho-mqtt",
    "snap7": "python-snap7",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package: str) -> None:
    declared = set(re.findall(r'"([\w-]+)[\[>]', (ROOT / "pyproject.toml").read_text()))
    files = sorted((ROOT / package).rglob("*.py"))
    names = {top(module) for path in files for module, _ in imports(path)}
    others = names - set(sys.stdlib_module_names) - set(PACKAGES) - {"tomllib"}  # which Python 3.10 has not
    assert {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in others} <= declared

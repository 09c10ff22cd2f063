"""What the tests share: the golden kit's weights on disk and its vectors in memory.

`pytest -m gpu` is for a machine without PyTorch: it reads only the files that have such tests, and what needs PyTorch
is imported where it is used.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from golden import recipe

if TYPE_CHECKING:
    from browser import Browser

    from acl_export.config import Head
    from acl_train.prompts import Prompts
    from acl_train.weights import Weights

# a shell starts what runs in the background, and nohup what it runs, without these; tests send them to processes
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

Golden = Callable[[str], dict[str, np.ndarray]]
FIXTURES = Path(__file__).parent / "golden" / "fixtures"
MINI = FIXTURES / "mini"
SAMPLES = Path(__file__).parent / "samples"  # files of old formats
LAYERS = (3, 6, 9, 12)
VV_FROM = 3
BUNDLE_SIZE = 98


@pytest.fixture(scope="session")
def golden() -> Golden:
    """The arrays of a fixture by name."""
    return recipe.load  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's small CLIP as an fp16 state dict."""
    path = tmp_path_factory.mktemp("weights") / "clip_tiny.pt"
    recipe.write_clip("tiny", str(path))
    return path


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's prompts as the published code saves them."""
    path = tmp_path_factory.mktemp("checkpoint") / "prompt_tiny.pth"
    recipe.write_prompt("tiny", str(path))
    return path


@pytest.fixture(scope="session")
def weights(clip_path: Path) -> Weights:
    """The kit's small CLIP in memory."""
    from acl_train.weights import load_weights

    return load_weights(weights=str(clip_path))


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """A browser for all tests of a file; they are skipped where there is none."""
    from browser import Browser, chromium

    chromium()
    browser = Browser("about:blank")
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def prompts(checkpoint_path: Path, weights: Weights) -> Prompts:
    """The kit's prompts, for 70 px and four layers."""
    from acl_train.config import VisionConfig
    from acl_train.convert import convert_checkpoint

    return convert_checkpoint(checkpoint_path, weights, VisionConfig(70, LAYERS, VV_FROM))


@pytest.fixture(scope="session")
def prompts_path(checkpoint_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit's prompts in our file, for the bundles below."""
    from acl_train.config import VisionConfig
    from acl_train.convert import convert_checkpoint
    from acl_train.prompts import save_prompts

    path = tmp_path_factory.mktemp("prompts") / "p.safetensors"
    save_prompts(
        path, convert_checkpoint(checkpoint_path, weights, VisionConfig(BUNDLE_SIZE, LAYERS, VV_FROM))
    )
    return path


@pytest.fixture(scope="session")
def bundles(
    prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> dict[Head, Path]:
    """A bundle of the kit's small CLIP per head; not to be written to."""
    folder = shared_folder(tmp_path_factory) / "bundles"
    return export_once(folder, prompts_path, weights, "fp32", max_batch=3)


@pytest.fixture(scope="session")
def fp16_bundles(
    prompts_path: Path, weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> dict[Head, Path]:
    """The same with the graphs of every arithmetic, for up to eight images at once; not to be written to."""
    folder = shared_folder(tmp_path_factory) / "fp16_bundles"
    return export_once(folder, prompts_path, weights, "fp16", max_batch=8)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, the same for all of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def export_once(
    folder: Path, prompts: Path, weights: Weights, precision: str, *, max_batch: int
) -> dict[Head, Path]:
    """A bundle per head; of several processes the first one exports."""
    from filelock import FileLock

    from acl_export.config import ExportConfig, Head, Precision
    from acl_export.export import export_bundle

    paths = {head: folder / head.value for head in Head}
    with FileLock(f"{folder}.lock"):
        for head, path in paths.items():
            if not path.exists():
                config = ExportConfig(head=head, precision=Precision(precision), max_batch=max_batch)
                export_bundle(prompts, path, weights, config)
    return paths


def assert_golden(reference: dict[str, np.ndarray], **mine: np.ndarray) -> None:
    """Compare arrays with the fixture's of the same name, each at its tolerance."""
    fits, report = recipe.compare(reference, mine)
    assert len(report) == len(mine), f"not in the fixture: {mine.keys() - report.keys()}"
    assert fits, {name: entry for name, entry in report.items() if not entry["ok"]}


LONGEST = (
    "export/test_demo.py",
    "export/test_workshop.py",
    "export/test_earlier.py",
    "train/test_tiny_backbone.py",
    "train/test_methods.py",
    "benchmarks/test_gpu_benchmark.py",
    "export/test_mixed.py",
    "commands/test_method_commands.py",
    "export/test_against_torch.py",
    "backends/test_trt_build.py",
)  # minutes together: begun first, or one process would be at them when the others have ended


REAL_CLOCKS = (
    "backends/test_triton_server.py",
    "benchmarks/test_station_benchmark.py",
    "commands/test_serve_command.py",
    "commands/test_web_command.py",
    "inspection/test_guest.py",
    "inspection/test_service.py",
    "inspection/test_station_camera.py",
    "inspection/test_web_line.py",
    "outputs/test_live_page.py",
    "outputs/test_live_page_browser.py",
    "outputs/test_modbus_client.py",
    "outputs/test_modbus_server.py",
    "outputs/test_mqtt.py",
    "outputs/test_opcua.py",
    "outputs/test_s7.py",
    "outputs/test_webhook.py",
    "sources/test_aravis.py",
    "sources/test_opencv.py",
    "train/test_together.py",
    "web/test_real_packets.py",
)  # other processes and the clock are in them: one that fails is run once more, and the summary counts it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and run again what met another process at a bad moment."""
    files = [str(item.path.relative_to(Path(__file__).parent).as_posix()) for item in items]
    ranks = [LONGEST.index(file) if file in LONGEST else len(LONGEST) for file in files]
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item, file in zip(items, files, strict=True):
            if file in REAL_CLOCKS:
                item.add_marker(pytest.mark.flaky(reruns=1))
    items[:] = [items[index] for index in sorted(range(len(items)), key=ranks.__getitem__)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the vectors of the large test are."""
    parser.addoption(
        "--large-vectors", metavar="FOLDER", help="folder with L336_518_synth0.npz and synth1.npz"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, pass over files without such tests: they may need what a box does not have."""
    is_test = collection_path.suffix == ".py" and collection_path.name.startswith("test_")
    if config.option.markexpr != "gpu" or not is_test:
        return None
    return True if "mark.gpu" not in collection_path.read_text(encoding="utf-8") else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, with the reason."""
    if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
        pytest.skip(reason)


@cache
def why_no_gpu() -> str:
    """Why tests cannot run on a GPU here, with the remedy; empty if they can."""
    from acl_runtime.backends.tensorrt.cuda import Cuda
    from acl_runtime.backends.tensorrt.library import find_library
    from acl_runtime.files.errors import BackendError

    try:
        find_library()
        Cuda().close()
    except BackendError as error:
        return f"no engine can run here: {error}"
    return ""

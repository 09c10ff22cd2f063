"""A bundle is a folder that is all the box needs; loading one checks every byte of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import numpy.typing as npt

from acl_runtime.bundle.manifest import FileRecord, Manifest, manifest_from_json, manifest_to_json
from acl_runtime.files.arrays import read_array, read_arrays
from acl_runtime.files.atomic import atomic_file, sha256
from acl_runtime.files.errors import BundleError, UserError
from acl_runtime.files.locks import locked_folder
from acl_runtime.files.onnx_files import external_files

MANIFEST = "manifest.json"
TEXT_EMBEDDINGS = "text_embeddings.npy"  # see load_text_embeddings
GOLDEN = "golden.npz"  # see load_golden
ENGINES = "engines"  # compiled for one GPU each, with a record of their own; not listed in the manifest
NORMAL, ANOMALOUS = 0, 1  # rows of the text embeddings
EXPORT_AGAIN = "export the bundle again"


@dataclass(frozen=True)
class Bundle:
    """A folder whose files are what its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def graph_path(self) -> Path:
        """The ONNX file."""
        return self.path / self.manifest.graph.file

    @property
    def cpu_graph_path(self) -> Path:
        """The ONNX file for a CPU: that in float32 if there is one, since CPUs compute fp16 no faster."""
        manifest = self.manifest
        name = manifest.graph_file("fp32") if "fp32" in manifest.arithmetics() else manifest.graph.file
        return self.path / name


def load_bundle(path: Path | str) -> Bundle:
    """Read a bundle and check that every file is there, unaltered and inside the folder; nothing is executed.

    Raises:
        FileNotFoundError: No such folder, or no manifest in it.
        ValueError: A file is missing, altered, of a newer format or outside the folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        if folder.is_file():
            raise BundleError(f"{path}: is a file; name the bundle's folder, such as {folder.parent}")
        raise FileNotFoundError(f"{path}: no such folder; name a bundle made by acl export")
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{path}: holds no {MANIFEST}; name a bundle made by acl export")
    try:
        manifest = manifest_from_json((folder / MANIFEST).read_bytes())
    except UserError as error:
        raise BundleError(f"{folder / MANIFEST}: {error}") from error
    _check_listed(folder, manifest)
    for name, record in manifest.files.items():
        _check_file(folder, name, record)
    _check_external_data(folder, manifest)
    return Bundle(folder, manifest)


def reload_bundle(bundle: Bundle, changing: str) -> Bundle:
    """Read the manifest of a loaded bundle again, of which only files of one folder may have changed.

    Only these files are checked again: the others need not be read for it, and may be large.

    Args:
        bundle: As it was loaded.
        changing: Name of the folder in it.

    Raises:
        BundleError: Other files are listed than before, or one of the folder is not as the manifest says.
    """
    path = bundle.path / MANIFEST
    try:
        manifest = manifest_from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing; copy the whole bundle again") from error
    except UserError as error:
        raise BundleError(f"{path}: {error}") from error
    if not is_same_besides(changing, bundle.manifest, manifest):
        raise BundleError(f"{bundle.path}: was replaced since it was loaded; restart what uses it")
    for name, record in manifest.files.items():
        if name.startswith(f"{changing}/"):
            _check_file(bundle.path, name, record)
    return Bundle(bundle.path, manifest)


def is_same_besides(folder: str, before: Manifest, now: Manifest) -> bool:
    """Whether two manifests say the same of how frames are judged, but for calibration and the files of a folder."""

    def rest(manifest: Manifest) -> Manifest:
        files = {name: each for name, each in manifest.files.items() if not name.startswith(f"{folder}/")}
        made = replace(manifest, tools=before.tools, created=before.created, parity=before.parity)
        return replace(made, files=files, calibration=before.calibration)

    return rest(before) == rest(now)


def write_manifest(folder: Path | str, manifest: Manifest) -> Manifest:
    """Hash all files of `folder` (`engines/` aside) and write its `manifest.json`, atomically.

    Args:
        folder: The bundle, or the folder that is becoming one.
        manifest: What to write; its `files` are replaced by what is there.

    Returns:
        The manifest as written.
    """
    complete = replace(manifest, files=_hash_files(Path(folder)))
    _write(Path(folder), complete)
    return complete


def replace_manifest(bundle: Bundle, manifest: Manifest, *, added: Sequence[str] = ()) -> None:
    """Write a bundle's manifest anew, atomically, as its files are listed; what else lies there stays unlisted.

    The bundle is held meanwhile; InputError if another process holds it.

    Args:
        bundle: As it was loaded and checked.
        manifest: What to write; its `files` are replaced.
        added: Names of files that were written into the folder since.
    """
    with locked_folder(bundle.path):
        files = bundle.manifest.files | {name: _record_file(bundle.path / name) for name in added}
        _write(bundle.path, replace(manifest, files=files))


def calibration_file(bundle: Bundle, name: str) -> Path:
    """A file that the manifest's calibration names; ValueError unless it is among those that were checked."""
    path = bundle.path / name
    if name not in bundle.manifest.files:
        raise BundleError(f"{path}: is not among the bundle's files; calibrate again")
    return path


def load_text_embeddings(bundle: Bundle) -> npt.NDArray[np.float32]:
    """What the bundle's embeddings are compared with: (H, 2, D) float32, unit rows NORMAL, ANOMALOUS.

    H is 1 where images and patches have the same, and the file then holds (2, D). Otherwise it is 1 + L: for images
    first, then for each layer's patches; or, with several layers, 2 L: for each layer's class token first.
    """
    path = bundle.path / TEXT_EMBEDDINGS
    embeddings = read_array(path, remedy=EXPORT_AGAIN)
    layers = len(bundle.manifest.layers)
    heads = 1 + layers
    if embeddings.dtype != np.float32 or embeddings.shape[:-1] not in ((2,), (heads, 2), (2 * layers, 2)):
        got = f"{embeddings.shape} {embeddings.dtype}"
        several = " or ".join(f"({each}, 2, joint)" for each in dict.fromkeys((heads, 2 * layers)))
        raise BundleError(
            f"{path}: text_embeddings must be (2, joint) or {several} float32, got {got}; {EXPORT_AGAIN}"
        )
    joint = bundle.manifest.graph.outputs[0].shape[-1]
    if bundle.manifest.head == "embeddings" and embeddings.shape[-1] != joint:
        got = embeddings.shape[-1]
        raise BundleError(
            f"{path}: text_embeddings must have {joint} columns, as those of images, got {got}; {EXPORT_AGAIN}"
        )
    if not np.allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-3):
        raise BundleError(f"{path}: text_embeddings must have unit rows; {EXPORT_AGAIN}")
    return embeddings.reshape(-1, 2, embeddings.shape[-1])


def check_judges(bundle: Bundle) -> None:
    """Raise BundleError where a bundle has no prompts and no memory of good parts yet: all is the same to it."""
    manifest = bundle.manifest
    if manifest.prompts.get("method") == "memory" and manifest.calibration.memory is None:
        raise BundleError(
            f"{bundle.path}: has no prompts and remembers no good parts yet, so it cannot judge; run acl calibrate "
            f"{bundle.path} GOOD_IMAGES --memory 8 first"
        )


def load_golden(bundle: Bundle) -> Mapping[str, np.ndarray]:
    """Frames with the torch model's answers, to prove a backend with.

    Returns:
        `images` (N, S, S, 3) uint8 RGB, or (N, H, W, 3) BGR if the graph resizes; `image_logits` (N,), `patch_logits`
        (N, L, G, G), or (N, 1, M) of windows, both log-odds, and `anomaly_maps` (N, S, S) in [0, 1], all float32.
    """
    path = bundle.path / GOLDEN
    manifest = bundle.manifest
    names = ("images", "image_logits", "patch_logits", "anomaly_maps")
    images, image_logits, patch_logits, anomaly_maps = read_arrays(path, names, remedy=EXPORT_AGAIN)
    frames, size, grid = len(images) if images.ndim else 0, manifest.image_size, manifest.grid
    windows = sum((grid - side + 1) ** 2 for side in manifest.windows)
    patches = (1, windows) if windows else (len(manifest.layers), grid, grid)
    expected = (
        (images, (frames, *manifest.graph.inputs[0].shape[1:]), np.uint8),
        (image_logits, (frames,), np.float32),
        (patch_logits, (frames, *patches), np.float32),
        (anomaly_maps, (frames, size, size), np.float32),
    )
    if not frames:
        raise BundleError(f"{path}: images must be one frame at least, got {images.shape}; {EXPORT_AGAIN}")
    for name, (array, shape, dtype) in zip(names, expected, strict=True):
        if array.shape != shape or array.dtype != dtype:
            got = f"{array.shape} {array.dtype}"
            raise BundleError(f"{path}: {name} must be {shape} {np.dtype(dtype)}, got {got}; {EXPORT_AGAIN}")
    return dict(zip(names, (array for array, _, _ in expected), strict=True))


def _write(folder: Path, manifest: Manifest) -> None:
    try:
        text = manifest_to_json(manifest)
        manifest_from_json(text)  # what load_bundle would refuse is not written
    except (UserError, ValueError) as error:
        raise BundleError(f"{folder / MANIFEST}: {error}") from error
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _record_file(path: Path) -> FileRecord:
    return FileRecord(sha256(path), path.stat().st_size)


def _hash_files(folder: Path) -> dict[str, FileRecord]:
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        name.as_posix(): _record_file(folder / name)
        for name in names
        if name.as_posix() != MANIFEST and name.parts[0] != ENGINES and not name.name.startswith(".")
    }


def _check_listed(folder: Path, manifest: Manifest) -> None:
    memory = [] if manifest.graph_memory is None else [manifest.graph_memory]
    for name in (*_graphs(manifest), *_projections(manifest), *memory, TEXT_EMBEDDINGS, GOLDEN):
        if name not in manifest.files:
            raise BundleError(f"{folder / MANIFEST}: files lacks {name!r}; {EXPORT_AGAIN}")


def _check_file(folder: Path, name: str, record: FileRecord) -> None:
    path = folder / name
    if not _is_inside(folder, name):
        raise BundleError(f"{folder}: {name!r} points outside the bundle; do not use it")
    if not path.is_file():
        raise BundleError(f"{path}: is missing; copy the whole bundle again")
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{path}: must be {record.bytes} bytes, got {size}; copy the bundle again")
    if sha256(path) != record.sha256:
        raise BundleError(f"{path}: was altered (sha256 differs); copy the bundle again")


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name is plainly relative, on any system, and stays in the folder when links are followed."""
    for pure in (PurePosixPath(name), PureWindowsPath(name)):
        if pure.is_absolute() or pure.drive or pure.root or ".." in pure.parts or not pure.parts:
            return False
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _check_external_data(folder: Path, manifest: Manifest) -> None:
    for graph in _graphs(manifest):
        for location in sorted(external_files(folder / graph)):
            if (PurePosixPath(graph).parent / location).as_posix() not in manifest.files:
                raise BundleError(
                    f"{folder / graph}: reads {location!r}, which is not in the manifest; do not use it"
                )


def _graphs(manifest: Manifest) -> list[str]:
    int8 = [] if manifest.int8 is None else [manifest.int8]
    arithmetics = (*manifest.arithmetics(), *manifest.on_request)
    return [*(manifest.graph_file(arithmetic) for arithmetic in arithmetics), *int8]


def _projections(manifest: Manifest) -> list[str]:
    return [] if manifest.projections is None else [manifest.projections]

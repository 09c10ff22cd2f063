"""A bundle is loaded only if every file is there, unaltered and inside the folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import SIDE, TEXT, sealed, tiny_manifest, write_tiny_bundle
from graphs import edit_manifest as edit

from acl_runtime.bundle.bundle import load_bundle, load_golden, load_text_embeddings, write_manifest
from acl_runtime.bundle.manifest import FileRecord, Tiling, manifest_from_json, manifest_to_json
from acl_runtime.bundle.words import network_words
from acl_runtime.files.errors import BundleError, UserError

Document = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


OF_VERSION_4 = ("class_norm", "windows", "projections")


def make_version_4(document: Document) -> None:
    document["format_version"] = 4
    del document["calibration"]["region_threshold"]
    for key in ("heads", "text_heads", "basis"):
        del document["backbone"][key]


def assert_refused(bundle: Path, message: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)
    assert str(bundle) in str(caught.value)


def test_what_was_written_is_loaded(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.graph_path == bundle / "model.onnx"
    assert set(loaded.manifest.files) == {"model.onnx", "text_embeddings.npy", "golden.npz"}
    np.testing.assert_array_equal(load_text_embeddings(loaded), TEXT[None])
    golden = load_golden(loaded)
    assert golden["images"].shape == (2, SIDE, SIDE, 3)
    assert golden["anomaly_maps"].shape == (2, SIDE, SIDE)


def test_the_keys_of_the_file_are_these(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    assert sorted(document) == sorted(
        [
            *(
                "format",
                "format_version",
                "head",
                "precision",
                "opset",
                "image_size",
                "grid",
                "layers",
                "ladder",
                "int8",
                "class_norm",
                "windows",
                "projections",
                "graph_memory",
            ),
            *("vv_from", "attention", "temperature", "blur_sigma", "max_batch", "backbone", "prompts"),
            *("graph", "preprocessing", "calibration", "parity", "files", "tools", "created", "checksum"),
        ]
    )
    assert document["format"] == "anomalyclip-bundle"
    assert sorted(document["backbone"]) == [
        *("basis", "blocks", "heads", "inspection", "name", "note", "quick_gelu", "text_heads", "weights"),
        *("weights_sha256", "width"),
    ]
    assert sorted(document["graph"]["inputs"][0]) == ["dtype", "name", "shape"]
    assert sorted(document["files"]["model.onnx"]) == ["bytes", "sha256"]
    assert sorted(document["calibration"]) == sorted(
        [
            "rule",
            "score_threshold",
            "map_threshold",
            "region_threshold",
            "tiling",
            "source",
            "record",
            "memory",
            "ignore",
        ]
    )


def test_a_manifest_survives_its_json() -> None:
    manifest = tiny_manifest()
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_engines_are_not_listed_and_other_files_are(bundle: Path) -> None:
    (bundle / "engines").mkdir()
    (bundle / "engines" / "a.engine").write_text("for one GPU")
    (bundle / "licence.txt").write_text("MIT")
    manifest = write_manifest(bundle, load_bundle(bundle).manifest)
    assert "licence.txt" in manifest.files
    assert "engines/a.engine" not in manifest.files
    assert load_bundle(bundle).manifest == manifest


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nothing", "no such folder; name a bundle", FileNotFoundError)
    assert_refused(tmp_path, "holds no manifest.json; name a bundle", FileNotFoundError)


@pytest.mark.parametrize("name", ["model.onnx", "text_embeddings.npy", "golden.npz"])
def test_a_missing_or_altered_file_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    (bundle / name).write_bytes(data[:-1])
    assert_refused(bundle, f"{name}: must be {len(data)} bytes, got {len(data) - 1}")
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    assert_refused(bundle, f"{name}: was altered")
    (bundle / name).unlink()
    assert_refused(bundle, f"{name}: is missing; copy the whole bundle again")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{}", "\xff", "[" * 100_000, '{"format": "zip"}'])
def test_a_manifest_that_is_none_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    assert_refused(bundle, r"manifest\.json: is (not valid JSON|no manifest)")


def test_a_newer_format_is_refused(bundle: Path) -> None:
    edit(bundle, lambda document: document.update(format_version=7, something_new=True))
    assert_refused(bundle, "is of format version 7, newer than 6; upgrade anomalyclip-deploy")


def test_a_manifest_of_version_1_is_read_with_the_defaults_of_what_it_lacked(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    edit(bundle, make_version_4)
    edit(bundle, lambda document: document.update(format_version=1))
    edit(
        bundle, lambda document: [document["backbone"].pop(key) for key in ("quick_gelu", "width", "blocks")]
    )
    edit(
        bundle,
        lambda document: [document["calibration"].pop(key) for key in ("rule", "tiling", "record", "memory")],
    )
    edit(
        bundle,
        lambda document: (document.pop("ladder"), document.pop("int8"), document["parity"].pop("drift")),
    )
    edit(bundle, lambda document: [document.pop(key) for key in OF_VERSION_4])
    unknown = replace(
        manifest.backbone, quick_gelu=None, width=None, blocks=None, heads=None, text_heads=None, basis=None
    )
    read = load_bundle(bundle).manifest
    assert read == replace(manifest, backbone=unknown)
    assert manifest_from_json(manifest_to_json(read)) == read


def test_a_manifest_of_version_2_is_read_as_one_without_a_ladder(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    edit(bundle, make_version_4)
    edit(bundle, lambda document: document.update(format_version=2))
    edit(bundle, lambda document: document["calibration"].pop("memory"))
    edit(bundle, lambda document: [document["backbone"].pop(key) for key in ("width", "blocks")])
    edit(
        bundle,
        lambda document: (document.pop("ladder"), document.pop("int8"), document["parity"].pop("drift")),
    )
    edit(bundle, lambda document: [document.pop(key) for key in OF_VERSION_4])
    unknown = replace(manifest.backbone, width=None, blocks=None, heads=None, text_heads=None, basis=None)
    assert load_bundle(bundle).manifest == replace(manifest, backbone=unknown)


def test_a_manifest_of_version_3_is_read_as_that_of_the_papers_method_without_a_memory(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    edit(bundle, make_version_4)
    edit(bundle, lambda document: document.update(format_version=3))
    edit(bundle, lambda document: [document.pop(key) for key in OF_VERSION_4])
    edit(bundle, lambda document: document["calibration"].pop("memory"))
    unknown = replace(manifest.backbone, heads=None, text_heads=None, basis=None)
    assert load_bundle(bundle).manifest == replace(manifest, backbone=unknown)
    edit(bundle, lambda document: document.pop("ladder"))
    assert_refused(bundle, "manifest lacks the key 'ladder'")


def test_a_manifest_of_version_4_is_read_without_a_checksum(bundle: Path) -> None:
    manifest = load_bundle(bundle).manifest
    edit(bundle, make_version_4)
    assert "checksum" not in json.loads((bundle / "manifest.json").read_text())
    read = load_bundle(bundle).manifest
    assert read == replace(
        manifest, backbone=replace(manifest.backbone, heads=None, text_heads=None, basis=None)
    )
    assert network_words(read) == "QuickGELU, heads not recorded by the version that made the bundle"
    assert read.calibration.regions_from == read.calibration.map_threshold
    assert manifest_from_json(manifest_to_json(read)) == read


def test_a_threshold_changed_by_hand_is_refused(bundle: Path) -> None:
    path = bundle / "manifest.json"
    text = path.read_text()
    assert text.count('"score_threshold": 0.5') == 1
    path.write_text(text.replace('"score_threshold": 0.5', '"score_threshold": 0.9'))
    assert_refused(
        bundle, r"manifest\.json: was altered \(its checksum differs\); copy the whole bundle again"
    )
    path.write_text(json.dumps(json.loads(text), indent=None, sort_keys=True))  # the same content
    assert load_bundle(bundle).manifest.calibration.score_threshold == 0.5
    document = json.loads(text)
    del document["checksum"]
    path.write_text(json.dumps(document))
    assert_refused(bundle, "manifest lacks the key 'checksum'")


def test_no_single_bit_of_a_manifest_can_flip_unnoticed() -> None:
    manifest = replace(tiny_manifest(), files={"model.onnx": FileRecord("0" * 64, 1)})
    text = json.dumps(json.loads(manifest_to_json(manifest)), separators=(",", ":")).encode()
    refused = 0
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            read = manifest_from_json(bytes(flipped))
        except UserError:
            refused += 1
        else:
            assert read == manifest  # such as 0.5e-3 for 0.5E-3
    assert refused > 0.99 * 8 * len(text)


@pytest.mark.parametrize("sides", [[0], [3]])
def test_windows_must_fit_the_grid(bundle: Path, sides: list[int]) -> None:
    edit(bundle, lambda document: document.update(windows=sides, grid=2))
    assert_refused(bundle, rf"windows must lie in 1\.\.2 \(the grid\), got \[{sides[0]}\]")


def test_a_projection_must_be_among_the_files(bundle: Path) -> None:
    edit(bundle, lambda document: document.update(projections="projections.npz"))
    assert_refused(bundle, "files lacks 'projections.npz'; export the bundle again")


def test_the_graphs_of_the_ladder_are_files_of_the_bundle(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "ladder", ladder=("fp16", "fp16-attention-fp32", "fp32"))
    manifest = load_bundle(folder).manifest
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    assert manifest.arithmetics() == ("fp16", "fp16-attention-fp32", "fp32")
    assert manifest.arithmetics("fp16-attention-fp32") == ("fp16-attention-fp32", "fp32")
    assert manifest.graph_file("fp16") == "model.onnx"
    assert manifest.graph_file("fp32") == "model.fp32.onnx"
    with pytest.raises(
        ValueError, match="arithmetic must be one of fp16, fp16-attention-fp32, fp32 .*, got fp16-att"
    ):
        manifest.arithmetics("fp16-attention-split")
    (folder / "model.fp32.onnx").unlink()
    assert_refused(folder, r"model\.fp32\.onnx: is missing")
    edit(folder, lambda d: d["files"].pop("model.fp32.onnx"))
    assert_refused(folder, r"files lacks 'model\.fp32\.onnx'")


def test_the_weights_of_every_step_are_files_of_the_bundle(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "ladder", ladder=("fp16", "fp32"))
    path = folder / "model.fp32.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="elsewhere.data", size_threshold=0)
    write_manifest(folder, manifest_from_json((folder / "manifest.json").read_text()))
    edit(folder, lambda d: d["files"].pop("elsewhere.data"))
    assert_refused(folder, "reads 'elsewhere.data', which is not in the manifest")


def test_a_tiling_survives_its_json() -> None:
    for tiling in (Tiling(518, 64, None), Tiling("auto", None, 12)):
        calibration = replace(tiny_manifest().calibration, tiling=tiling)
        manifest = replace(tiny_manifest(), calibration=calibration)
        assert manifest_from_json(manifest_to_json(manifest)) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["calibration"].update(rule="peak"), 'rule must be one of "score", "score or peak"'),
        (lambda d: d["calibration"].update(record=5), "record must be a string, got 5"),
        (lambda d: d["calibration"].update(tiling=518), "tiling must be an object, got 518"),
        (
            lambda d: d["calibration"].update(tiling={"tile": "big", "overlap": None, "min_defect": None}),
            'tile must be an integer or one of "auto", got "big"',
        ),
        (
            lambda d: d["calibration"].update(tiling={"tile": 64, "overlap": 64, "min_defect": None}),
            r"overlap must be at least 0 and less than the tile \(64\), got 64",
        ),
        (lambda d: d.pop("grid"), "manifest lacks the key 'grid'"),
        (lambda d: d["graph"].pop("file"), "manifest.graph lacks the key 'file'"),
        (lambda d: d["prompts"].pop("recipe"), "prompts lacks the key 'recipe'"),
        (lambda d: d["files"].pop("golden.npz"), "files lacks 'golden.npz'"),
        (
            lambda d: d.update(precision="fp8"),
            'precision must be one of "fp32", "fp16", "fp16-accumulate-fp32"',
        ),
        (
            lambda d: d.update(ladder=[{"arithmetic": "fp32", "file": "model.onnx", "parity": d["parity"]}]),
            "ladder must not name an arithmetic twice, got fp32, fp32",
        ),
        (lambda d: d.update(colour="red"), "manifest has an unknown key 'colour'"),
        (lambda d: d.update(head="logits"), 'head must be one of "map", "embeddings", got "logits"'),
        (lambda d: d.update(format_version=True), "format_version must be one of 6, got true"),
        (lambda d: d.update(grid="7"), 'grid must be an integer, got "7"'),
        (lambda d: d.update(grid=True), "grid must be an integer, got true"),
        (lambda d: d.update(temperature=float("nan")), "temperature must be a finite number, got NaN"),
        (lambda d: d.update(temperature=10**400), "temperature must be a finite number, got 1000"),
        (lambda d: d.update(temperature=0), r"temperature must lie in 0\.0001\.\.1000, got 0"),
        (lambda d: d.update(blur_sigma=-1), r"blur_sigma must lie in 0\.\.4096, got -1"),
        (lambda d: d.update(temperature=1e-40), r"temperature must lie in 0\.0001\.\.1000, got 1e-40"),
        (lambda d: d.update(temperature=1e300), r"temperature must lie in .*, got 1e\+300"),
        (lambda d: d.update(blur_sigma=1e7), r"blur_sigma must lie in 0\.\.4096, got 1e\+07"),
        (lambda d: d.update(blur_sigma=57), r"blur_sigma must lie in 0\.\.56 \(image_size\), got 57"),
        (lambda d: d.update(image_size=100000), r"image_size must lie in 1\.\.4096, got 100000"),
        (lambda d: d.update(image_size=57), r"graph\.inputs must be images of 57 x 57 \(image_size\)"),
        (lambda d: d.update(grid=10**6), r"grid must lie in 1\.\.1024, got 1e\+06"),
        (lambda d: d.update(opset=10**400), r"opset must lie in 1\.\.100, got a larger number"),
        (lambda d: d.update(max_batch=10**9), r"max_batch must lie in 1\.\.1024"),
        (lambda d: d.update(vv_from=0), r"vv_from must lie in 1\.\.1025, got 0"),
        (lambda d: d.update(layers=[1] * 300), "layers must be at most 256, got 300"),
        (lambda d: d.update(windows=[1] * 300), "windows must be at most 256, got 300"),
        (lambda d: d["backbone"].update(heads=0), r"backbone\.heads must lie in 1\.\.1024, got 0"),
        (lambda d: d["preprocessing"].update(std=[1, 0, 1]), r"std must lie in 0\.001\.\.1000, got 0"),
        (
            lambda d: d["parity"].update(tolerance={}),
            "tolerance must name anomaly_map and image_logits, got nothing",
        ),
        (
            lambda d: d["parity"]["tolerance"].update(
                image_logit=d["parity"]["tolerance"].pop("image_logits")
            ),
            "tolerance must name anomaly_map and image_logits, got anomaly_map, image_logit",
        ),
        (lambda d: d["preprocessing"].update(mean=[0]), r"preprocessing\.mean must be 3 numbers, .*, got 1"),
        (lambda d: d["calibration"].update(region_threshold=-0.1), r"region_threshold must lie in 0\.\.1"),
        (lambda d: d["parity"]["tolerance"].update(anomaly_map=1e300), r"tolerance must lie in 0\.\.1"),
        (lambda d: d["files"]["model.onnx"].update(bytes=-1), "bytes must lie in 0"),
        (lambda d: d["files"]["model.onnx"].update(sha256="0"), "must be 64 hexadecimal digits, got '0'"),
        (
            lambda d: d["graph"].update(outputs=d["graph"]["outputs"][::-1]),
            'graph.outputs must be image_logits and anomaly_maps, as head "map" gives',
        ),
        (
            lambda d: d["graph"]["outputs"][1].update(shape=["batch", 5, 5]),
            r"graph\.outputs must have the shapes \(\(\), \(56, 56\)\) for each image, got \(\(\), \(5, 5\)\)",
        ),
        (
            lambda d: d["backbone"].update(note="fit\r\x1b[2KOK"),
            r"backbone\.note must hold no control characters, got fit\\r\\x1b\[2KOK",
        ),
        (lambda d: d["prompts"].update({"a\nb": "c"}), r"prompts must hold no control characters, got a\\nb"),
        (lambda d: d["tools"].update(onnx="\ud800"), r"tools\.onnx must hold no control characters"),
        (lambda d: d.update(layers=[]), "layers must name at least one block"),
        (lambda d: d.update(layers=[1, None]), r"layers\[1\] must be an integer, got null"),
        (lambda d: d.update(tools=[]), r"tools must be an object, got \[\]"),
        (lambda d: d.update(backbone="ViT"), 'backbone must be an object, got "ViT"'),
        (lambda d: d["calibration"].update(map_threshold=2), r"map_threshold must lie in 0..1, got 2"),
        (
            lambda d: d["graph"]["inputs"][0].update(shape=[None]),
            r"shape\[0\] must be an integer or a string",
        ),
        (
            lambda d: d["graph"]["inputs"][0].update(shape=["batch", 56]),
            r"graph\.inputs must be frames \(batch, height, width, 3\), got \['batch', 56\]",
        ),
    ],
)
def test_a_wrong_key_is_named(bundle: Path, change: Callable[[Document], object], message: str) -> None:
    edit(bundle, change)
    assert_refused(bundle, message)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "a/../../outside", "C:\\outside", "..\\x", ""]
)
def test_a_name_that_leads_outside_is_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "outside").write_text("secret")
    edit(bundle, lambda d: d["files"].update({name: {"sha256": "0" * 64, "bytes": 6}}))
    assert_refused(bundle, "points outside the bundle; do not use it")


def test_a_link_that_leads_outside_is_refused(bundle: Path) -> None:
    os.rename(bundle / "model.onnx", bundle.parent / "model.onnx")
    (bundle / "model.onnx").symlink_to("../model.onnx")
    assert_refused(bundle, "'model.onnx' points outside the bundle")


def test_a_bundle_may_itself_be_a_link(bundle: Path) -> None:
    (bundle.parent / "link").symlink_to(bundle, target_is_directory=True)
    assert load_bundle(bundle.parent / "link").manifest == load_bundle(bundle).manifest


def test_weights_beside_the_graph_must_be_in_the_manifest(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    onnx.save(
        model, bundle / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    manifest = write_manifest(bundle, tiny_manifest())
    assert "model.onnx.data" in manifest.files
    load_bundle(bundle)
    edit(bundle, lambda d: d["files"].pop("model.onnx.data"))
    assert_refused(bundle, "reads 'model.onnx.data', which is not in the manifest")


def test_a_manifest_that_would_be_refused_is_not_written(bundle: Path) -> None:
    before = (bundle / "manifest.json").read_bytes()
    (bundle / "model.onnx").unlink()
    broken = json.loads(before)
    broken["image_size"] = 0
    with pytest.raises(ValueError, match=r"image_size must lie in 1\.\.4096, got 0"):
        manifest_from_json(json.dumps(sealed(broken)))
    assert (bundle / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            TEXT.astype(np.float64),
            r"be \(2, joint\) or \(3, 2, joint\) or \(4, 2, joint\) float32, got \(2, 6\) float64",
        ),
        (TEXT[:1], r"got \(1, 6\) float32"),
        (TEXT * 2, "must have unit rows"),
        (np.array([None, None]), "is not an array file"),  # a pickle, which is code
    ],
)
def test_text_embeddings_of_another_kind_are_refused(bundle: Path, array: np.ndarray, message: str) -> None:
    np.save(bundle / "text_embeddings.npy", array, allow_pickle=True)
    write_manifest(bundle, tiny_manifest())
    loaded = load_bundle(bundle)
    with pytest.raises(ValueError, match=message):
        load_text_embeddings(loaded)


def test_golden_frames_of_another_kind_are_refused(bundle: Path) -> None:
    np.savez(bundle / "golden.npz", images=np.zeros(3))
    write_manifest(bundle, tiny_manifest())
    with pytest.raises(ValueError, match=r"golden\.npz: is not an archive of arrays \(.*image_logits"):
        load_golden(load_bundle(bundle))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images", np.zeros((2, SIDE, SIDE, 4), np.uint8), r"images must be \(2, 56, 56, 3\) uint8, got"),
        ("images", np.zeros((0, SIDE, SIDE, 3), np.uint8), r"images must be one frame at least, got \(0, 56"),
        ("images", np.array(1, np.uint8), "images must be"),
        ("image_logits", np.zeros(2), r"image_logits must be \(2,\) float32, got \(2,\) float64"),
        ("patch_logits", np.zeros((2, 1, 7, 7), np.float32), r"patch_logits must be \(2, 2, 7, 7\) float32"),
        ("anomaly_maps", np.zeros((2, 7, 7), np.float32), r"anomaly_maps must be \(2, 56, 56\) float32"),
        ("anomaly_maps", np.full((2, SIDE, SIDE), np.nan, np.float32), "a number in it is not finite"),
    ],
)
def test_golden_arrays_of_other_shapes_are_refused(
    bundle: Path, name: str, array: np.ndarray, message: str
) -> None:
    arrays = dict(np.load(bundle / "golden.npz")) | {name: array}
    np.savez(bundle / "golden.npz", **arrays)
    write_manifest(bundle, tiny_manifest())
    with pytest.raises(BundleError, match=message):
        load_golden(load_bundle(bundle))


def test_text_embeddings_of_another_length_than_the_images_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "b", head="embeddings")
    np.save(folder / "text_embeddings.npy", np.eye(2, 9, dtype=np.float32))
    write_manifest(folder, tiny_manifest("embeddings"))
    with pytest.raises(BundleError, match="must have 6 columns, as those of images, got 9; export"):
        load_text_embeddings(load_bundle(folder))

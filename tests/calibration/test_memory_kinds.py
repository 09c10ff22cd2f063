"""A memory's kind is chosen by evidence, memories are merged, and the promise holds with every kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import GRID, JOINT, drawn_frame, edit_manifest, write_tiny_bundle
from parts import draw_parts

from acl_runtime.bundle.bundle import load_bundle
from acl_runtime.calibration.calibrate import calibrate_bundle
from acl_runtime.calibration.conformal import Demand, allowed_rejections, scale_images
from acl_runtime.calibration.drawn_defects import DEFECTS, draw_defects
from acl_runtime.calibration.memory_choice import CANDIDATES, KindEvidence, choose_kinds, rank_auroc
from acl_runtime.calibration.memory_findings import _unlike
from acl_runtime.calibration.memory_fit import Shown, fit_memory
from acl_runtime.calibration.memory_images import Request, fit_memory_to_images
from acl_runtime.calibration.merge import read_merged
from acl_runtime.calibration.record import CalibrationRecord, MemoryImages
from acl_runtime.calibration.thresholds import draw_scale_images, find_rule
from acl_runtime.detection.detector import Detector
from acl_runtime.evaluation.metrics import auroc
from acl_runtime.files.errors import InputError
from acl_runtime.images.decode import load_frame
from acl_runtime.scoring.maps import sigmoid
from acl_runtime.scoring.memory import memory_maps, patch_evidence, share_peaks
from acl_runtime.scoring.memory_file import load_memory
from acl_runtime.scoring.memory_kinds import Kind, kinds_text, parse_kinds
from acl_runtime.sources.files import Source, list_sources

GOOD, DEFECTIVE, REMEMBERED = 40, 6, 6


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("images"), good=GOOD, defective=DEFECTIVE)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", head="embeddings")


def good(images: Path) -> list[Source]:
    return list_sources([images / "good"])


def memory_of(record: CalibrationRecord) -> MemoryImages:
    assert record.memory is not None
    return record.memory


def texts(record: CalibrationRecord, kind: str) -> str:
    return " ".join(finding.text for finding in record.findings if finding.kind == kind)


@pytest.mark.parametrize("kinds", ["subspace", "place", "place+subspace", "patches+subspace"])
def test_every_kind_judges_is_kept_and_is_loaded(bundle: Path, images: Path, kinds: str) -> None:
    defective = list_sources([images / "defective"])
    record = calibrate_bundle(
        Detector(bundle), good(images), defective=defective, memory=REMEMBERED, memory_kind=kinds
    )
    kept = memory_of(record)
    assert (kept.kind, kept.chosen_by, kept.evidence) == (kinds, "user", {})
    assert (kept.images, record.images) == (REMEMBERED, GOOD - REMEMBERED)
    memory, detector = load_memory(load_bundle(bundle)), Detector(bundle)
    assert memory is not None
    assert kinds_text(memory.kinds) == kinds
    verdicts = [detector(load_frame(path)) for path in record.good.source[:3]]
    assert record.good.score[:3] == tuple(verdict.score for verdict in verdicts)
    assert record.escapes is not None
    assert record.escapes.missed == 0


def test_evidence_chooses_and_is_told(bundle: Path, images: Path) -> None:
    record = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED)
    kept = memory_of(record)
    assert kept.chosen_by == "drawn defects"
    assert set(kept.evidence) == {kinds_text(kinds) for kinds in CANDIDATES}
    assert kept.evidence[kept.kind] >= max(kept.evidence.values()) - 0.005
    assert f"of the kind {kept.kind}, chosen by drawn defects: AUROC" in texts(record, "memory")
    defective = list_sources([images / "defective"])
    record = calibrate_bundle(Detector(bundle), good(images), defective=defective, memory=REMEMBERED)
    assert memory_of(record).chosen_by == "defective images"


def test_of_equals_the_cheapest_is_chosen() -> None:
    found = [
        KindEvidence(("place",), 0.8),
        KindEvidence(("subspace",), 0.925),
        KindEvidence(("patches",), 0.9275),
    ]
    assert choose_kinds(found) == ("subspace",)
    assert choose_kinds([*found, KindEvidence(("patches", "place"), 0.99)]) == ("patches", "place")
    assert [parse_kinds(text) for text in ("place", "subspace+place")] == [("place",), ("subspace", "place")]


def test_the_auroc_is_the_fields() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 9, 40).astype(float), rng.integers(3, 12, 30).astype(float)
    labels = np.repeat([0, 1], [40, 30])
    assert rank_auroc(low, high) == pytest.approx(auroc(np.concatenate([low, high]), labels))


def test_drawn_defects_are_where_they_say() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (56, 56, 3), dtype=np.uint8)
    for _ in range(20):
        drawn = draw_defects(image, GRID, rng)
        assert len(drawn) == len(DEFECTS)
        for damaged, cover in drawn:
            changed = (damaged != image).any(axis=2).reshape(GRID, 8, GRID, 8).any(axis=(1, 3)).ravel()
            assert damaged.dtype == np.uint8
            assert not changed[cover == 0].any()


def test_a_memory_is_updated_without_the_old_images(bundle: Path, images: Path, tmp_path: Path) -> None:
    first = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind="subspace")
    later = draw_parts(tmp_path / "later", good=30, defective=0)
    for number in range(30):
        cv2.imwrite(str(later / "good" / f"{number}.png"), np.clip(drawn_frame(900 + number), 30, 220))
    before = bundle / memory_of(first).file
    again = calibrate_bundle(
        Detector(bundle),
        list_sources([later / "good"]),
        memory=4,
        memory_kind="subspace",
        merged=[str(bundle / "calibrations" / "0001.json")],
    )
    kept = memory_of(again)
    assert (kept.images, len(kept.sources), len(kept.merged)) == (REMEMBERED + 4, 4, 1)
    ((_, merged),) = read_merged([str(bundle / kept.file)], load_bundle(bundle))
    assert merged.moments.count == (REMEMBERED + 4) * GRID * GRID
    with pytest.raises(ValueError, match="images are in .* too, and would count twice"):
        read_merged([str(before), str(bundle)], load_bundle(bundle))


def test_images_of_a_merged_memory_neither_calibrate_nor_are_remembered_again(
    bundle: Path, images: Path
) -> None:
    first = calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind="subspace")
    alone = calibrate_bundle(Detector(bundle), good(images), merged=[str(bundle)])
    assert (memory_of(alone).images, memory_of(alone).sources) == (REMEMBERED, ())
    assert alone.good == first.good
    both = calibrate_bundle(Detector(bundle), good(images), memory=4, merged=[str(bundle)])
    assert both.images == GOOD - REMEMBERED - 4
    assert not {*memory_of(first).sources} & {*memory_of(both).sources, *both.good.source}


def test_a_single_image_is_added_to_the_means_of_places(bundle: Path, images: Path) -> None:
    calibrate_bundle(Detector(bundle), good(images), memory=REMEMBERED, memory_kind="place")
    record = calibrate_bundle(
        Detector(bundle), good(images), memory=1, memory_kind="place", merged=[str(bundle)]
    )
    assert (memory_of(record).kind, memory_of(record).images) == ("place", REMEMBERED + 1)


def test_single_images_alone_make_no_mean_of_places(bundle: Path, images: Path) -> None:
    calibrate_bundle(Detector(bundle), good(images), memory=1)
    for _ in range(2):
        calibrate_bundle(Detector(bundle), good(images), memory=1, merged=[str(bundle)])
    with pytest.raises(InputError, match=r"compared with each other, got single ones; remember 2 or more"):
        calibrate_bundle(Detector(bundle), good(images), memory=1, memory_kind="place", merged=[str(bundle)])


def test_memories_that_cannot_be_merged_are_refused(bundle: Path, images: Path, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", head="embeddings")
    edit_manifest(other, lambda document: document["backbone"].update(weights_sha256="1" * 64))
    calibrate_bundle(Detector(other), good(images), memory=4, memory_kind="subspace")
    with pytest.raises(ValueError, match="is of another network or other prompts"):
        calibrate_bundle(Detector(bundle), good(images), memory=4, merged=[str(other)])
    with pytest.raises(ValueError, match="has no memory of good parts"):
        calibrate_bundle(Detector(bundle), good(images), memory=4, merged=[str(bundle)])
    calibrate_bundle(Detector(bundle), good(images))
    with pytest.raises(ValueError, match="is of a calibration without a memory"):
        calibrate_bundle(Detector(bundle), good(images), merged=[str(bundle / "calibrations/0001.json")])
    samples = Path(__file__).parents[1] / "samples" / "calibrations" / "version-3" / "0002.npz"
    with pytest.raises(
        ValueError, match="holds no statistics of the good parts, as memories of earlier versions"
    ):
        calibrate_bundle(Detector(bundle), good(images), merged=[str(samples)])


def test_defective_images_that_cannot_be_read_choose_no_kind_and_are_told(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        calibrate_bundle(
            Detector(bundle), good(images), defective=list_sources([tmp_path / "broken.png"]), memory=4
        )
    assert not (bundle / "calibrations").exists()


def test_one_good_image_is_compared_with_itself_and_told(bundle: Path, images: Path) -> None:
    record = calibrate_bundle(Detector(bundle), good(images), memory=1)
    assert (memory_of(record).kind, memory_of(record).chosen_by) == ("patches", "default")
    assert "the memory is of a single image" in texts(record, "memory")


def test_a_defective_part_in_the_memory_is_named(bundle: Path, images: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(7):
        shutil.copy(images / "good" / f"{number}.png", few)
    shutil.copy(images / "defective" / "0.png", few / "bad.png")
    request = Request(8, ("subspace",))
    fitted = fit_memory_to_images(
        Detector(bundle), list_sources([few]), request, seed=0, progress=lambda *at: None
    )
    highest = max(fitted.peaks, key=lambda name: fitted.peaks[name])
    assert highest.endswith("bad.png")
    found = list(_unlike(fitted.peaks))
    assert [finding.images for finding in found] == [(highest,)]
    assert "1 of 8 images in the memory is unlike the others" in found[0].text


def test_a_memory_of_another_product_is_told_with_its_evidence(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    red = draw_parts(tmp_path / "red", good=0, defective=30)
    calibrate_bundle(Detector(other), list_sources([red / "defective"]), memory=6, memory_kind="subspace")
    record = calibrate_bundle(Detector(bundle), good(images), merged=[str(other)])
    assert "half of the good images are far from the memory (map peaks from" in texts(
        record, "unlike the memory"
    )
    own = calibrate_bundle(Detector(bundle), good(images), memory=6, memory_kind="subspace")
    assert "another product" not in texts(own, "unlike the memory")


def overkill(kinds: tuple[Kind, ...], *, trials: int) -> float:
    """Share of fresh parts that are rejected, times one more than calibrate: 1 if as exchangeability says."""
    rng, demand, count, remembered = np.random.default_rng(6), Demand(0.01), 60, 20
    rejected = []
    for trial in range(trials):
        centre = rng.normal(size=JOINT)
        centre /= np.linalg.norm(centre)
        parts = (
            rng.normal(size=(count + 60, 4, 1, JOINT)) * rng.lognormal(-1, 1, (count + 60, 1, 1, 1)) + centre
        )
        parts = (parts / np.linalg.norm(parts, axis=-1, keepdims=True)).astype(np.float32)
        logits = rng.normal(size=(len(parts), 4, 1)).astype(np.float32)
        shown = [
            Shown(*each, np.ones(4, np.bool_))
            for each in zip(parts[:remembered], logits[:remembered], strict=True)
        ]
        memory = fit_memory(shown, places=4, subject="", seed=trial).memory(kinds)
        evidence = patch_evidence(memory, parts.swapaxes(1, 2), logits.reshape(-1, 1, 2, 2))
        maps, found = memory_maps(evidence, image_size=2, blur_sigma=0)
        scores = sigmoid(share_peaks(np.zeros(len(parts)), found).astype(np.float64))
        peaks = maps.max(axis=(1, 2)).astype(np.float64)
        given = slice(remembered, count)
        sets_scales = draw_scale_images(count - remembered, seed=trial)
        calibrating = len(sets_scales) - scale_images(len(sets_scales))
        rule = find_rule(
            scores[given],
            peaks[given],
            sets_scales,
            rejections=allowed_rejections(calibrating, demand),
            hidden_defects=0,
        )
        fresh = zip(scores[count:].tolist(), peaks[count:].tolist(), strict=True)
        rejected.append(np.mean([rule.is_anomalous(*values) for values in fresh]))
    return float(np.mean(rejected)) * (calibrating + 1)


@pytest.mark.parametrize("kinds", CANDIDATES, ids=kinds_text)
def test_the_promise_holds_with_every_kind(kinds: tuple[Kind, ...]) -> None:
    """The long form, on real images, is `benchmarks.memory_calibration`."""
    assert overkill(kinds, trials=60) == pytest.approx(1, abs=0.4)

"""What is saved of a frame says the truth, and never lands on what the user has."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest
from graphs import drawn_frame, write_tiny_bundle

from acl_runtime import Detector, draw_overlay
from acl_runtime.detection.verdict import Inspected, Verdict
from acl_runtime.files.errors import FrameError, InputError
from acl_runtime.images.frame import Frame
from acl_runtime.images.overlay import label
from acl_runtime.outputs import pictures
from acl_runtime.outputs.pictures import Maps, Overlays, check_outputs
from acl_runtime.sources.files import list_sources


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    return Detector(write_tiny_bundle(tmp_path_factory.mktemp("pictures") / "bundle"))(drawn_frame())


def inspected(verdict: Verdict, name: str = "a") -> Inspected:
    return Inspected(Frame(f"{name}.png", 0, PurePath(name), drawn_frame()), verdict)


def test_a_map_is_saved_as_it_is(tmp_path: Path, verdict: Verdict) -> None:
    Maps(tmp_path / "maps")(inspected(verdict, "deep/a"))
    np.testing.assert_array_equal(np.load(tmp_path / "maps" / "deep" / "a.npy"), verdict.anomaly_map)
    part = replace(verdict, anomaly_map=verdict.anomaly_map[:, ::2])  # not contiguous
    Maps(tmp_path / "maps")(inspected(part, "b"))
    np.testing.assert_array_equal(np.load(tmp_path / "maps" / "b.npy"), part.anomaly_map)


def test_an_overlay_is_saved_as_it_is_drawn(tmp_path: Path, verdict: Verdict) -> None:
    Overlays(tmp_path)(inspected(verdict))
    saved = cv2.imread(str(tmp_path / "a.overlay.png"))
    np.testing.assert_array_equal(saved, draw_overlay(drawn_frame(), verdict))


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ((0.2, None), "NG 0.300 by score"),
        ((0.4, None), "OK 0.300"),
        ((0.4, 0.5), "OK 0.300 peak 0.100"),
        ((0.2, 0.5), "NG 0.300 peak 0.100 by score"),
        ((0.4, 0.05), "NG 0.300 peak 0.100 by peak"),
        ((0.2, 0.05), "NG 0.300 peak 0.100 by score and peak"),
    ],
)
def test_the_strip_above_says_the_verdict_and_what_decided(
    verdict: Verdict,
    thresholds: tuple[float, float | None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def remember(picture: np.ndarray, text: str, *, is_anomalous: bool) -> np.ndarray:
        said.append(text)
        return label(picture, text, is_anomalous=is_anomalous)

    monkeypatch.setattr(pictures, "label", remember)
    score_threshold, peak_threshold = thresholds
    given = replace(
        verdict,
        score=0.3,
        peak=0.1,
        is_anomalous="NG" in words,
        threshold=score_threshold,
        peak_threshold=peak_threshold,
    )
    drawn = draw_overlay(drawn_frame(), given)
    assert said == [words]
    assert drawn.shape[0] > 90


@pytest.mark.parametrize("kind", [Maps, Overlays])
def test_a_full_disk_is_told_with_the_path_and_nothing_half_is_left(
    tmp_path: Path, verdict: Verdict, kind: type[Maps | Overlays]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{tmp_path}/a\\.") as raised:
            kind(tmp_path)(inspected(verdict))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_disk_refuses_is_a_matter_of_the_frame(tmp_path: Path, verdict: Verdict) -> None:
    for output in (Maps(tmp_path), Overlays(tmp_path)):
        with pytest.raises(FrameError, match="its results cannot be saved under its name .*; rename it"):
            output(inspected(verdict, "a" * 300))


def test_an_input_is_known_whatever_links_lead_to_it(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "in", tmp_path / "bundle"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), drawn_frame())
    sources = list_sources([folder])
    for name, link in (("hard", os.link), ("soft", os.symlink)):
        (tmp_path / name).mkdir()
        link(folder / "a.png", tmp_path / f"{name}.jsonl")
        link(folder / "a.png", tmp_path / name / "a.npy")
        link(folder / "a.png", tmp_path / name / "a.overlay.png")
        with pytest.raises(InputError, match=r"jsonl: is one of the inputs"):
            check_outputs([folder], sources, bundle, json=tmp_path / f"{name}.jsonl")
        with pytest.raises(InputError, match=r"a\.npy would overwrite an input"):
            check_outputs([folder], sources, bundle, save_maps=tmp_path / name)
        with pytest.raises(
            InputError, match=r"a\.overlay\.png would overwrite an input|where overlays would be"
        ):
            check_outputs([folder], sources, bundle, save_overlays=tmp_path / name)
    check_outputs([folder], sources, bundle, json=tmp_path / "x", save_maps=tmp_path, save_overlays=tmp_path)


def test_overlays_never_come_to_lie_among_the_parts(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "in", tmp_path / "bundle"
    (folder / "in").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), drawn_frame())
    with pytest.raises(
        InputError, match="where overlays would be judged as parts; name a folder of their own"
    ):
        check_outputs([folder], [], bundle, save_overlays=tmp_path)  # watched: in/in/b.png may arrive
    check_outputs([folder], list_sources([folder]), bundle, save_overlays=tmp_path)
    cv2.imwrite(str(folder / "in" / "b.png"), drawn_frame())
    with pytest.raises(InputError, match="where overlays would be judged as parts"):
        check_outputs([folder], list_sources([folder]), bundle, save_overlays=tmp_path)
    check_outputs([folder], [], bundle, save_overlays=tmp_path / "overlays", save_maps=tmp_path)

"""How files are read can be said to every command, and what could not be read is told by the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from console import acl, assert_one_line
from graphs import drawn_frame, write_tiny_bundle
from PIL import Image

from acl_runtime import Detector


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def parts(folder: Path, count: int) -> Path:
    """Pictures of a 12-bit camera, in 16 bits."""
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), drawn_frame(number)[:, :, 0].astype(np.uint16) << 4)
    return folder


def test_run_takes_the_bits_and_says_where_they_are_missing(bundle: Path, tmp_path: Path) -> None:
    folder = parts(tmp_path / "parts", 2)
    told = acl("run", bundle, folder, "--bits", 12, "--json", tmp_path / "a.jsonl")
    assert told.exit_code == 0
    assert "--bits" not in told.stderr
    scores = [json.loads(line)["score"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with Detector(bundle) as detector:
        assert scores == [detector(drawn_frame(number)[:, :, 0]).score for number in range(2)]
    silent = acl("run", bundle, folder)
    assert silent.stderr.count("its 16-bit pixels stay below 4096 of 65535") == 1


def test_calibrate_reads_as_it_is_told_and_says_that_the_others_must_too(
    bundle: Path, tmp_path: Path
) -> None:
    result = acl("calibrate", bundle, parts(tmp_path / "parts", 24), "--bits", 12, "--max-overkill", "20%")
    assert result.exit_code == 0, result.output
    assert "the thresholds hold for frames that are read with --bits 12" in result.stderr


def test_eval_turns_pictures_and_compares_masks_as_they_are_then(bundle: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("good", "bad", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    Image.fromarray(drawn_frame(0)).save(tmp_path / "data" / "good" / "0.png", exif=exif)
    Image.fromarray(drawn_frame(1)).save(tmp_path / "data" / "bad" / "1.png", exif=exif)
    mask = np.zeros((120, 90), np.uint8)  # as drawn in a viewer, which turned the picture
    mask[20:60, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "data" / "masks" / "1.png")
    stored = acl("eval", bundle, tmp_path / "data")
    assert stored.exit_code == 1
    assert "is 90x120 and its image" in stored.stderr
    result = acl("eval", bundle, tmp_path / "data", "--exif")
    assert result.exit_code == 0, result.output
    assert "are turned as it says" in " ".join(result.stderr.split())


def test_a_picture_that_is_too_large_does_not_stop_the_run(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(drawn_frame(0)).save(tmp_path / "0.png")
    Image.fromarray(drawn_frame(1, height=40, width=40)).save(tmp_path / "1.png")
    result = acl("run", bundle, tmp_path / "0.png", tmp_path / "1.png", "--max-megapixels", 0.002)
    assert result.exit_code == 1
    assert "at most 0.002 are decoded" in result.output
    assert "OK" in result.output or "NG" in result.output


def test_bits_that_cannot_be_are_a_usage_error(bundle: Path) -> None:
    assert acl("run", bundle, "x.png", "--bits", 20).exit_code == 2
    assert_one_line(acl("run", bundle, "99999999999999999999"), "no camera has that number")

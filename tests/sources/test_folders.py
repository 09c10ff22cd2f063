"""What is taken from a folder, what is passed over with a word, and what does not stop the rest."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acl_runtime.files.errors import InputError
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.sources.files import iter_frames, list_sources


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path, "PNG")
    return path


def test_files_that_are_not_read_are_counted_in_one_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a.png")
    for name in ("1.heic", "2.HEIC", "b/3.avif", "4.tga", "belt.mp4", "notes.txt", ".5.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO, "acl"):
        assert len(list_sources([tmp_path])) == 1
    (message,) = caplog.messages
    assert message.startswith(
        f"{tmp_path}: files that are not read are passed over: 2 .heic, 1 .avif, 1 .mp4, 1 .tga"
    )


def test_a_folder_of_images_alone_is_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.jfif", "c.JPE", "d.pnm", "e.j2k"):
        save(tmp_path / name)
    with caplog.at_level(logging.INFO, "acl"):
        assert len(list_sources([tmp_path])) == 5
    assert not caplog.messages


@pytest.mark.parametrize(
    "name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"]
)
def test_what_systems_keep_in_a_folder_is_no_part(tmp_path: Path, name: str) -> None:
    part = save(tmp_path / "a.png")
    save(tmp_path / name / "b.png")
    save(tmp_path / "c" / name / "d" / "b.png")
    assert [source.path for source in list_sources([tmp_path])] == [str(part)]


def test_a_folder_that_cannot_be_listed_is_a_bad_entry_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "locked" / "b.png")
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may list whatever its mode says
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    good, bad = iter_frames(list_sources([tmp_path]))
    assert isinstance(good, Frame)
    assert isinstance(bad, BadFrame)
    assert bad.problem == (
        f"{tmp_path / 'locked'}: the folder cannot be listed (permission denied); allow it, or move it away"
    )


def test_a_pipe_among_the_images_does_not_hang_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.png")
    save(tmp_path / "1.png")
    bad, good = iter_frames(list_sources([tmp_path]))
    assert isinstance(bad, BadFrame)
    assert "is no regular file" in bad.problem
    assert isinstance(good, Frame)


def test_a_number_that_no_camera_has_is_refused() -> None:
    with pytest.raises(InputError, match="99999999999999999999: no such file, and no camera has that number"):
        list_sources(["99999999999999999999"])
    assert list_sources(["7"])[0].is_camera


def test_overlays_of_an_earlier_run_are_no_parts(tmp_path: Path) -> None:
    part = save(tmp_path / "a.png")
    save(tmp_path / "overlays" / "a.overlay.png")
    assert [source.path for source in list_sources([tmp_path])] == [str(part)]

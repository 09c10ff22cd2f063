"""A demonstration removes its own files and no others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from acl_export.demo_folder import MARKER, demo_folder
from acl_runtime.files.errors import InputError


def make(output: Path, text: str = "drawn") -> None:
    with demo_folder(output, None):
        for name in ("unseen/egg/0.png", "bundle/manifest.json", "report/index.html"):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text(text)
        (output / "contact_sheet.png").write_text(text)


def test_an_earlier_demonstration_is_replaced_and_what_lies_beside_it_stays(tmp_path: Path) -> None:
    make(tmp_path / "demo")
    (tmp_path / "demo" / "mine.txt").write_text("dear")
    (tmp_path / "demo" / "unseen" / "old").mkdir()
    (tmp_path / "demo" / "bundle" / ".lock").touch()  # left by those who used the bundle
    (tmp_path / "demo" / "bundle" / "engines" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "demo" / "bundle" / "engines" / "onnxruntime" / "a.ort").touch()
    make(tmp_path / "demo", "again")
    assert (tmp_path / "demo" / "unseen" / "egg" / "0.png").read_text() == "again"
    assert (tmp_path / "demo" / "mine.txt").read_text() == "dear"
    assert not (tmp_path / "demo" / "unseen" / "old").exists()


@pytest.mark.parametrize(
    "name",
    ["unseen/part/test/good/0.png", "unseen/egg/0.png", "bundle/calibrations/0001.json", "contact_sheet.png"],
)
def test_a_file_that_it_did_not_make_or_that_was_changed_since_is_never_removed(
    tmp_path: Path, name: str
) -> None:
    make(tmp_path / "demo")
    (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "demo" / name).write_text("the user's")
    with pytest.raises(
        InputError, match=rf"did not make, or that were changed since \({name}\); name another"
    ):
        make(tmp_path / "demo")
    assert (tmp_path / "demo" / name).read_text() == "the user's"
    assert (tmp_path / "demo" / "report" / "index.html").read_text() == "drawn"


def test_the_users_images_in_the_demonstrations_folder_are_not_touched(tmp_path: Path) -> None:
    make(tmp_path / "demo")
    part = tmp_path / "demo" / "unseen" / "egg"
    with (
        pytest.raises(InputError, match="demo: holds .*egg, the images to judge; name another folder"),
        demo_folder(tmp_path / "demo", part),
    ):
        pass
    assert (part / "0.png").read_text() == "drawn"


def test_a_demonstration_that_was_interrupted_is_replaced(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), demo_folder(tmp_path / "demo", None):
        (tmp_path / "demo" / "learning").mkdir()
        (tmp_path / "demo" / "learning" / "0.png").write_text("drawn")
        raise KeyboardInterrupt
    make(tmp_path / "demo")
    assert not (tmp_path / "demo" / "learning").exists()


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_without_its_list_nothing_is_removed(tmp_path: Path, text: str) -> None:
    make(tmp_path / "demo")
    (tmp_path / "demo" / MARKER).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="did not make"):
        make(tmp_path / "demo")

"""Tiny data sets for tests, drawn on disk."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def draw(path: Path, *, mode: str = "L", size: tuple[int, int] = (12, 8), color: int = 255) -> Path:
    """A picture of one colour in the upper left quarter, black elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new(mode, size)
    picture.paste((color, 0, 0) if mode == "RGB" else color, (0, 0, size[0] // 2, size[1] // 2))
    picture.save(path)
    return path


def draw_category(root: Path, *, suffix: str = "_mask", good: str = "good") -> None:
    for stem in ("2", "10"):
        draw(root / "test" / good / f"{stem}.png")
        draw(root / "test" / "hole" / f"{stem}.png")
        draw(root / "ground_truth" / "hole" / f"{stem}{suffix}.png")

"""Photographs for pre-training: which ones, under which licence, and how they are read from a folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from acl_runtime.files.atomic import sha256
from acl_runtime.files.errors import InputError

TABLE = Path(__file__).with_name("photographs.tsv")
CELL, MARGIN, STEP_ACROSS, STEP_DOWN = 128, 16, 144, 176  # of a sheet of materials, in pixels
SMALLEST = 96  # side of a photograph worth keeping
BLANK = 250  # from here on a pixel is the sheet's paper


@dataclass(frozen=True)
class Source:
    """A file of the table: `package/path` under the folder of photographs."""

    package: str
    path: str
    licence: str
    kind: str  # `photograph`, or `sheet`: many small photographs of materials on white paper
    sha256: str


@dataclass(frozen=True)
class Photograph:
    """A photograph of a material or a scene."""

    image: NDArray[np.uint8]  # (H, W, 3) BGR
    is_seamless: bool  # whether it continues at its other side


def read_table(table: Path = TABLE) -> list[Source]:
    """The files that the second stage of pre-training looks at."""
    with table.open(encoding="utf-8", newline="") as file:
        return [Source(**row) for row in csv.DictReader(file, delimiter="\t")]


def load_photographs(folder: Path, sources: list[Source]) -> list[Photograph]:
    """Read all photographs, sheets cut up.

    Raises:
        InputError: A file is missing or is another one than the table says.
    """
    found: list[Photograph] = []
    for source in sources:
        path = folder / source.package / source.path
        if not path.is_file() or sha256(path) != source.sha256:
            raise InputError(
                f"{path}: is missing or another file than photographs.tsv names; unpack {source.package} there"
            )
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{path}: OpenCV cannot read it; install one that reads this format")
        if source.kind == "sheet":
            found += [Photograph(cell, is_seamless=True) for cell in cut_sheet(np.asarray(image, np.uint8))]
        else:
            found.append(Photograph(np.asarray(image, np.uint8), is_seamless=False))
    return found


def cut_sheet(sheet: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The photographs on a sheet; those that are too small or too white to be told from the paper are left out."""
    cells = []
    for top in range(MARGIN, len(sheet) - CELL + 1, STEP_DOWN):
        for left in range(MARGIN, sheet.shape[1] - CELL + 1, STEP_ACROSS):
            cell = sheet[top : top + CELL, left : left + CELL]
            ink = cell.min(axis=2) < BLANK
            rows, columns = ink.mean(axis=1) > 0.5, ink.mean(axis=0) > 0.5
            height, width = int(rows.sum()), int(columns.sum())
            if min(height, width) >= SMALLEST and ink[:height, :width].mean() > 0.98:
                cells.append(cell[2 : height - 2, 2 : width - 2].copy())  # the paper bleeds into the edge
    return cells

"""One picture of many inspected frames, for a README."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from acl_runtime.report.pictures import Card, Picture, color_bar, draw_panels

TILE = 240  # pixels: the longer edge of every picture
SHARPER = 2  # times the tile's size is what is drawn: its lines become finer
GAP = 12
MARGIN = 20
LINE = 30  # height of a line of text
COLUMNS = ("input", "ground truth", "anomaly map", "overlay")
PAPER, INK, PALE, RED, GREEN = "#ffffff", "#1c2330", "#5c6675", "#b3261e", "#1a7f4b"


def contact_sheet(cards: Sequence[Card]) -> Picture:
    """A row for each card: input, ground truth, anomaly map, overlay and the verdict in words.

    Returns:
        (H, W, 3) uint8 BGR on white paper, with the one colour scale of all maps at the bottom.
    """
    if not cards:
        raise ValueError("cards must be at least one, got none")
    rows = [[_tile(picture) for picture in _pictures(card)] for card in cards]
    heights = [max(picture.height for picture in row) for row in rows]
    width = 2 * MARGIN + len(COLUMNS) * TILE + (len(COLUMNS) - 1) * GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + 3 * LINE + sum(heights) + len(rows) * (LINE + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        draw.text((_left(column), MARGIN), name, INK, _font(17))
    top = MARGIN + LINE
    for card, row, height in zip(cards, rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (_left(column), top))
        _write_caption(draw, card, top + height + 4)
        top += height + LINE + GAP
    _draw_scale(sheet, draw, top + 8)
    return np.ascontiguousarray(np.asarray(sheet)[:, :, ::-1])


def _pictures(card: Card) -> tuple[Picture, ...]:
    panels = draw_panels(card, side=SHARPER * TILE)
    return panels.frame, panels.truth, panels.anomaly_map, panels.overlay


def _tile(picture: Picture) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).reduce(SHARPER)


def _left(column: int) -> int:
    return MARGIN + column * (TILE + GAP)


def _write_caption(draw: ImageDraw.ImageDraw, card: Card, top: int) -> None:
    judgement = {True: "right", False: "false alarm" if card.label == 0 else "missed", None: ""}[
        card.is_right
    ]
    verdict = f"{'NG' if card.is_anomalous else 'OK'} {card.score:.3f}  {judgement}"
    color = {True: GREEN, False: RED, None: PALE}[card.is_right]
    draw.text((_left(0), top), card.title, PALE, _font(15))
    draw.text((_left(3), top), verdict, color, _font(15))


def _draw_scale(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
    draw.text((_left(0), top), "probability of a defect, one scale for all maps", PALE, _font(15))
    draw.text((_left(2) - 22, top), "0", PALE, _font(15))
    sheet.paste(_tile(color_bar(SHARPER * TILE, SHARPER * 14)), (_left(2), top + 3))
    draw.text((_left(3) - 2, top), "1", PALE, _font(15))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

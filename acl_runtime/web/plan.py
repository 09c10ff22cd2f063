"""How an endless web is cut: tile rows at absolute line numbers, columns as those of a frame of the same width."""

from __future__ import annotations

from dataclasses import dataclass

from acl_runtime.bundle.manifest import Manifest, Tiling
from acl_runtime.files.errors import InputError
from acl_runtime.images.tiles import SMALLEST_TILE, Axis, cut_axis, tile_side


@dataclass(frozen=True)
class WebPlan:
    """Where the tiles of a web lie.

    Row k covers the lines [k · step, k · step + tile). Where a strip does not begin at a multiple of the step, because
    a gap ended just before, its first row begins with the strip, and the next at the next multiple; its last row moves
    back, so that it ends with the strip. So the tiles depend on line numbers alone.

    A tile is shrunk to the network's size where it is larger, and so is its map: map line m shows the lines from
    m · tile / map_tile on.
    """

    tile: int  # lines, and pixels across unless the web is narrower
    step: int  # lines from a row to the next, at least half a tile
    columns: Axis
    map_tile: int  # map lines of a tile

    @property
    def width(self) -> int:
        """Pixels of a line."""
        return self.columns.length

    @property
    def map_width(self) -> int:
        """Pixels of a map line."""
        return self.columns.map_length

    def next_row(self, start: int) -> int:
        """First line of the row after the one that begins at `start`."""
        return (start // self.step + 1) * self.step

    def map_line(self, line: int) -> int:
        """Where the upper edge of a line lies on the map, to the nearest map line; halves go up."""
        return (2 * line * self.map_tile + self.tile) // (2 * self.tile)

    def lines_of(self, first: int, stop: int) -> tuple[int, int]:
        """Lines that the map lines [first, stop) show, rounded outwards."""
        return first * self.tile // self.map_tile, -(-stop * self.tile // self.map_tile)

    def pixels_of(self, left: int, right: int) -> tuple[int, int]:
        """Pixels of a line that the map's pixels [left, right) show, rounded outwards, as `find_regions` does."""
        return left * self.width // self.map_width, -(-right * self.width // self.map_width)


def plan_web(width: int, tiling: Tiling, manifest: Manifest) -> WebPlan:
    """Choose the tiles of a web, as `plan_tiles` does for a frame of this width that is higher than it is wide.

    Args:
        width: Of a line, in pixels.
        tiling: What was asked for.
        manifest: Of the bundle.

    Raises:
        InputError: The sizes of the tiling do not go together, tiles share more than half, or the bundle's graph takes
            whole frames only.
    """
    if manifest.frame_size is not None:
        raise InputError(
            "the bundle was exported with --frame-size and takes whole frames; export one without it for a web"
        )
    wanted = tile_side(tiling, image_size=manifest.image_size, grid=manifest.grid)
    tile = min(wanted, max(width, SMALLEST_TILE))
    across = min(tile, width)
    overlap = tile // 4 if tiling.overlap is None else tiling.overlap
    if tile < wanted:
        overlap = min(overlap, tile // 2)
    if 2 * overlap > tile:
        raise InputError(
            f"overlap must be at most half the tile ({tile}) on a web, got {overlap}; pass a smaller one"
        )
    columns = cut_axis(width, across, min(overlap, across // 2), image_size=manifest.image_size)
    return WebPlan(tile, tile - overlap, columns, min(tile, manifest.image_size))

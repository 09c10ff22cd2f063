"""Text in columns that line up, whatever characters the names hold, on a terminal, in a pipe and in a log.

`rich.table` is not used: it cuts the end of long names, where categories differ, and not their middle; and it has no
rows whose cells span a value and the difference beside it, which the tables of `acl eval` have.
"""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from acl_runtime.text.names import printable


def left(text: str, width: int) -> str:
    """Padded to `width` columns; what is longer loses its middle, where names differ least."""
    clean = printable(text)
    if cell_len(clean) > width:
        head = (width - 2) // 2
        clean = set_cell_size(clean, head) + ".." + _tail(clean, width - 2 - head)
    return set_cell_size(clean, width)


def name_width(names: list[str], *, least: int, most: int) -> int:
    """Columns that the names need, within limits."""
    return min(most, max([least, *(cell_len(printable(name)) for name in names)]))


def _tail(text: str, width: int) -> str:
    while cell_len(text) > width:
        text = text[1:]
    return text

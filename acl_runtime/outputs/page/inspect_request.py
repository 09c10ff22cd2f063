"""A picture that somebody posts, judged by the station's engine when no part needs it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from acl_runtime.images.decode import ReadSettings, decode_frame
from acl_runtime.images.frame import BadFrame, Frame
from acl_runtime.outputs.json_lines import json_record
from acl_runtime.outputs.station import StationControl

MOST_BYTES = 16_000_000  # of an encoded picture
_READING = ReadSettings(max_megapixels=32)


def judge_picture(data: bytes, control: StationControl) -> dict[str, Any]:
    """The keys of `json_record` without source and index.

    Args:
        data: A file of one of `FORMATS`.
        control: Of the station.

    Raises:
        BusyError: The engine has no time for it.
        FrameError: It is no picture that is read, or cannot be judged.
    """
    pixels = decode_frame(data, _READING)
    result = control.inspect(Frame("posted", 0, PurePath("posted"), pixels))
    record = json_record(result)
    if isinstance(result, BadFrame):
        return {"verdict": "not judged", "reason": result.problem}
    del record["source"], record["index"]
    return {"verdict": "ng" if result.verdict.is_anomalous else "ok", **record}

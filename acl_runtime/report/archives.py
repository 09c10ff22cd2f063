"""What another bundle says of an archive, as a page: how many verdicts changed, and the pictures that moved most."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from acl_runtime.archive.compare import WORDS, Comparison, Judged, Pair
from acl_runtime.archive.record import ArchiveRun, changed
from acl_runtime.archive.shard import load_map, read_picture
from acl_runtime.files.atomic import atomic_file
from acl_runtime.files.errors import FrameError
from acl_runtime.images.decode import ReadSettings
from acl_runtime.images.frame import BadFrame
from acl_runtime.images.overlay import overlay
from acl_runtime.images.preprocess import to_bgr
from acl_runtime.report.cards import QUALITY, SMALL_SIDE, color_scale, gauge, verdict_badge
from acl_runtime.report.page import facts_list, page, section, to_html
from acl_runtime.report.pictures import Picture, fit, jpeg_uri
from acl_runtime.scoring.regions import Region

PAGE = "index.html"
_ORDER = ("OK to NG", "NG to OK", "same verdict")
_STYLE = """
.pair { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 18px; }
.pair figure > .verdict { margin-top: 10px; } .pair .badge { font-size: 1.05rem; padding: 7px 12px; }
table.changes { width: auto; } table.changes td.changed { font-weight: 650; }
@media screen and (max-width: 760px) { .pair { grid-template-columns: minmax(0, 1fr); } }
"""


def write_comparison(folder: Path, comparison: Comparison) -> Path:
    """Write the page into a folder, and return its path."""
    path = folder / PAGE
    with atomic_file(path) as temporary:
        temporary.write_text(comparison_page(comparison), encoding="utf-8")
    return path


def comparison_page(comparison: Comparison) -> str:
    """The page: one file that loads nothing."""
    before, after = comparison.before, comparison.after
    facts = [
        ("Pictures", f"{before.plan.pictures}"),
        ("With another verdict", f"{comparison.changed}"),
        ("Score moved by, mean", f"{comparison.mean_score_change:.4f}"),
        ("Score moved by, at most", f"{comparison.most_score_change:.4f}"),
    ]
    body = [
        "<header><h1>One archive, two judgements</h1>",
        f'<p class="lead">{to_html(_lead(comparison))}</p></header>',
        facts_list(facts),
        section("Verdicts", _bundles(before, after), _table(comparison)),
        *_groups(comparison),
    ]
    return page("One archive, two judgements", "\n".join(body), style=_STYLE)


def _lead(comparison: Comparison) -> str:
    counts = comparison.counts
    found, freed = counts.get(("OK", "NG"), 0), counts.get(("NG", "OK"), 0)
    if not comparison.changed:
        return "Every picture has the verdict that it had before."
    once = comparison.changed - found - freed
    only_one = f" Judged by one of both only: {once}." if once else ""
    return f"From OK to NG: {found}. From NG to OK: {freed}.{only_one}"


def _table(comparison: Comparison) -> str:
    words = [word for word in WORDS.values() if any(word in place for place in comparison.counts)]
    head = "".join(f"<th>{to_html(f'{word} after')}</th>" for word in words)
    rows = "".join(
        f"<tr><td>{to_html(f'{one} before')}</td>{''.join(_cell(comparison, one, other) for other in words)}</tr>"
        for one in words
    )
    table = f'<table class="changes"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _cell(comparison: Comparison, one: str, other: str) -> str:
    kind = "" if one == other else ' class="changed"'
    return f"<td{kind}>{comparison.counts.get((one, other), 0)}</td>"


def _bundles(before: ArchiveRun, after: ArchiveRun) -> str:
    lines = [
        f"{word}: {run.bundle} ({run.bundle_sha256[:12]}), begun {run.created[:10]}"
        for word, run in (("Before", before), ("After", after))
    ]
    lines += [
        f"Option {name.replace('_', ' ')}: {then} before, {now} after"
        for name, (then, now) in changed(before.judging, after.judging).items()
    ]
    return "".join(f'<p class="pale">{to_html(line)}</p>' for line in lines)


def _groups(comparison: Comparison) -> Iterator[str]:
    if any(pair.before.map or pair.after.map for pairs in comparison.largest.values() for pair in pairs):
        yield color_scale()
    for kind in _ORDER:
        pairs = comparison.largest.get(kind, [])
        if kind == "same verdict":
            pairs = pairs[:4]
        cards = (_card(pair, comparison) for pair in pairs)
        if pairs:
            words = f'<p class="pale">The {len(pairs)} whose margin moved most, in log-odds.</p>'
            yield section(f"{kind[0].upper()}{kind[1:]}", words, *cards)


def _card(pair: Pair, comparison: Comparison) -> str:
    frame = _frame(pair.before.path, comparison.after)
    views = (
        _view(
            None if frame is None else fit(frame, 2 * SMALL_SIDE),
            f"margin {pair.before.margin:+.2f} before, {pair.after.margin:+.2f} after",
        ),
        _view(_marked(frame, pair.before), "before", _verdict(pair.before)),
        _view(_marked(frame, pair.after), "after", _verdict(pair.after)),
    )
    title = f"<h3>{to_html(pair.before.path)}</h3>"
    return f'<article class="card">{title}<div class="pair">{"".join(views)}</div></article>'


def _view(picture: Picture | None, caption: str, more: str = "") -> str:
    if picture is None:
        return f'<figure><p class="pale">the picture cannot be read any more</p>{more}</figure>'
    height, width = picture.shape[:2]
    image = (
        f'<img src="{jpeg_uri(picture, quality=QUALITY)}" width="{width}" height="{height}" alt="{caption}">'
    )
    return f"<figure>{image}<figcaption>{caption}</figcaption>{more}</figure>"


def _verdict(judged: Judged) -> str:
    assert judged.rule is not None
    assert judged.score is not None
    assert judged.peak is not None
    gauges = gauge("score", judged.score, judged.rule.score_threshold)
    if judged.rule.peak_threshold is not None:
        gauges += gauge("map peak", judged.peak, judged.rule.peak_threshold)
    return f'<div class="verdict">{verdict_badge(is_anomalous=bool(judged.is_anomalous))}{gauges}</div>'


def _frame(path: str, run: ArchiveRun) -> Picture | None:
    how = run.judging
    with tempfile.TemporaryDirectory() as scratch:
        read = read_picture(
            path, 0, ReadSettings(how.bits, how.exif, how.max_megapixels), Path(scratch, "picture")
        )
    return None if isinstance(read, BadFrame) else to_bgr(read.frame)


def _marked(frame: Picture | None, judged: Judged) -> Picture | None:
    """The picture with the boxes of its regions, under its map where that was kept."""
    if frame is None:
        return None
    small = fit(frame, 2 * SMALL_SIDE)
    anomaly_map = _map(judged)
    return overlay(
        small,
        np.zeros((1, 1), np.float32) if anomaly_map is None else anomaly_map,
        [_scaled(region, small.shape[1] / frame.shape[1]) for region in judged.regions],
        map_threshold=0.5,
        is_anomalous=bool(judged.is_anomalous) and anomaly_map is not None,
    )


def _map(judged: Judged) -> np.ndarray | None:
    if judged.map is None:
        return None
    try:
        return load_map(judged.map)
    except (FrameError, OSError):
        return None  # it was moved away; the boxes are there all the same


def _scaled(region: Region, scale: float) -> Region:
    numbers = {name: round(getattr(region, name) * scale) for name in ("x", "y", "width", "height")}
    return replace(region, **numbers)

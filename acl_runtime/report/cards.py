"""An inspected frame as HTML: its pictures, and the verdict in words and as a bar."""

from __future__ import annotations

from acl_runtime.report.detail import Detail, draw_detail, mark_place
from acl_runtime.report.page import to_html
from acl_runtime.report.pictures import Card, Picture, color_bar, draw_panels, jpeg_uri
from acl_runtime.text.percent import probability

SMALL_SIDE = 300  # pixels: the longer edge of the pictures, more than a page shows
QUALITY = 80  # of JPEG: a page has many pictures


def small_card(card: Card) -> str:
    """Two pictures, ground truth and map; the verdict with its margin; of a large frame two of a detail."""
    panels, detail = draw_panels(card, side=SMALL_SIDE), draw_detail(card, side=SMALL_SIDE)
    truth, anomaly_map = (
        picture if detail is None else mark_place(picture, detail, card)
        for picture in (panels.truth, panels.anomaly_map)
    )
    margin = f'<div class="pale number"><span>margin {card.margin:+.2f}</span></div>'
    content = (
        _view(truth, _truth_caption(card), card),
        _view(anomaly_map, _map_caption(card), card),
        _verdict(card, margin),
        "" if detail is None else _detail_views(detail, card),
    )
    kind = "views" if detail is None else "views detailed"
    views = f'<div class="{kind}">{"".join(content)}</div>'
    return f'<article class="card small"><h4>{to_html(card.title)}</h4>{views}</article>'


def color_scale() -> str:
    """What the maps' colours mean."""
    source = jpeg_uri(color_bar(512, 16), quality=QUALITY)
    bar = f'<img src="{source}" alt="colours of the probabilities from 0 to 1">'
    ticks = "<span>0</span><span>probability of a defect</span><span>1</span>"
    note = '<p class="pale">The same colour is the same probability in every map.</p>'
    return f'{note}<figure class="scale">{bar}<figcaption>{ticks}</figcaption></figure>'


def _view(picture: Picture, caption: str, card: Card) -> str:
    height, width = picture.shape[:2]
    alt = to_html(f"{caption} of {card.title}")
    image = f'<img src="{jpeg_uri(picture, quality=QUALITY)}" width="{width}" height="{height}" alt="{alt}">'
    return f"<figure>{image}<figcaption>{to_html(caption)}</figcaption></figure>"


def _detail_views(detail: Detail, card: Card) -> str:
    height, width = detail.truth.shape[:2]
    place = "a missed defect" if detail.is_defect else "the map's peak"
    caption = f"In the box: {width} x {height} pixels of the frame around {place}"
    return _view(detail.truth, caption, card) + _view(detail.anomaly_map, "Its map", card)


def _truth_caption(card: Card) -> str:
    if card.label == 0:
        return "Ground truth: good"
    if card.mask is None:
        return "Ground truth: unknown" if card.label is None else "Ground truth: defective, not outlined"
    return "Ground truth, outlined"


def _map_caption(card: Card) -> str:
    return f"Anomaly map, peak {card.peak:.2f}"


def _verdict(card: Card, more: str = "") -> str:
    badge = verdict_badge(is_anomalous=card.is_anomalous)
    gauges = gauge("score", card.score, card.threshold)
    if card.peak_threshold is not None:
        gauges += gauge("map peak", card.peak, card.peak_threshold)
    return f'<div class="verdict">{badge}{_judgement(card)}{gauges}{more}</div>'


def _judgement(card: Card) -> str:
    if card.is_right is None:
        return '<span class="unknown">? not labelled</span>'
    if card.is_right:
        return '<span class="right">&#10003; right</span>'
    return f'<span class="wrong">&#10007; {"missed defect" if card.label else "false alarm"}</span>'


def verdict_badge(*, is_anomalous: bool) -> str:
    """OK or NG."""
    return '<span class="badge ng">NG</span>' if is_anomalous else '<span class="badge ok">OK</span>'


def gauge(name: str, value: float, threshold: float) -> str:
    """A value as a bar from 0 to 1 with a tick at its threshold, and the numbers below it."""
    tick = f"{100 * threshold:.2f}%"
    return (
        '<svg class="meter" aria-hidden="true"><rect class="track" y="4" width="100%" height="8" rx="4"/>'
        f'<rect class="level" y="4" width="{100 * value:.2f}%" height="8" rx="4"/>'
        f'<line x1="{tick}" x2="{tick}" y1="0" y2="16"/></svg>'
        f'<div class="pale number"><span>{name} {probability(value)}</span>'
        f"<span>threshold {probability(threshold)}</span></div>"
    )

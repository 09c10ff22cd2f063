"""Write an evaluation as one HTML page: the figures, what another threshold would do, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acl_runtime.calibration.report import LIMIT
from acl_runtime.data.datasets import load_sample
from acl_runtime.data.samples import Sample
from acl_runtime.evaluation.evaluate import DatasetEvaluation, Detect
from acl_runtime.evaluation.rows import all_decisions, dataset_notes, decisions
from acl_runtime.evaluation.tables import shown_rows
from acl_runtime.files.atomic import atomic_file
from acl_runtime.images.decode import ReadSettings
from acl_runtime.report.cards import color_scale, small_card
from acl_runtime.report.charts import CHART_STYLE
from acl_runtime.report.choice import Group, choose_images
from acl_runtime.report.evaluation_charts import category_charts
from acl_runtime.report.odds_axis import to_probability
from acl_runtime.report.page import facts_list, notes_list, page, section, to_html
from acl_runtime.report.pictures import make_card
from acl_runtime.report.summary import category_figures, summary_table
from acl_runtime.scoring.rule import Rule, rule_words

MOST_CARDS = 180  # on a page: 12 for each of 15 categories, 6 to 11 MB, of nothing but noise 21 MB
Place = tuple[int, int]  # number of a data set, and of a category or a sample in it

INDEX = "index.html"
TITLE = "Evaluation of anomaly detection"
NOTES = (
    "A threshold that is read off these charts was chosen with the labels of these very images: on others it will "
    "do somewhat worse. Choose it on good parts that are not in the test, or test it on others.",
    "A margin is the distance from the other verdict in log-odds: positive for NG, negative for OK, near 0 in doubt.",
)

STYLE = """
.category { display: grid; grid-template-columns: 290px minmax(0, 1fr); gap: 16px; margin: 14px 0 28px; }
.figures, .charts figure { background: var(--paper); border: 1px solid var(--line); border-radius: 14px;
  padding: 16px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 16px;
  align-content: start; }
.charts figcaption { font-size: .92rem; font-weight: 600; color: var(--ink); margin: 0 0 4px; }
.charts .below { font-size: .8rem; color: var(--pale); margin: 6px 0 0; line-height: 1.35; }
.figures dl { display: grid; grid-template-columns: 1fr auto; gap: 4px 12px; margin: 0 0 14px; font-size: .92rem; }
.figures dt { color: var(--pale); } .figures dd { margin: 0; text-align: right; font-weight: 550; }
.figures table { font-size: .86rem; margin-bottom: 14px; } .figures th, .figures td { padding: 5px 0 5px 8px; }
.figures th:first-child, .figures td:first-child { padding-left: 0; position: static; }
.figures { align-self: start; }
.figures p { font-size: .86rem; color: var(--pale); margin: 0; }
td small { display: block; font-size: .78rem; color: var(--pale); font-weight: 400; }
.wide th, .wide td { padding: 8px 11px; } .wide th { white-space: normal; vertical-align: bottom; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.up { font-size: .82rem; font-weight: 400; margin-left: 10px; letter-spacing: 0; }
h3.group { margin: 22px 0 10px; } h3.group span { font-weight: 400; color: var(--pale); }
h4 { font-size: .9rem; font-weight: 600; margin: 0 0 8px; overflow-wrap: anywhere; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 14px; }
.card.small { margin: 0; padding: 14px; }
.card.small .views { grid-template-columns: repeat(2, minmax(0, 1fr)) 132px; gap: 12px; }
.card.small .badge { font-size: 1.05rem; padding: 7px 12px; } .card.small .verdict { gap: 6px; font-size: .84rem; }
@media (min-width: 761px) { .detailed .verdict { grid-column: 3; grid-row: 1 / span 2; } }
@media (max-width: 900px) { .category { grid-template-columns: minmax(0, 1fr); } }
@media screen and (max-width: 760px) { .card.small .views { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media print { .category { grid-template-columns: 200px minmax(0, 1fr); } .charts figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Judge:
    """Who judges a category's images."""

    detect: Detect  # called again with the frames that are shown, whose maps were not kept
    rule: Rule  # by which it decided


def write_eval_report(
    folder: Path | str,
    evaluations: Sequence[DatasetEvaluation],
    detect: Detect,
    *,
    rule: Rule,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str],
    mask_above: int = 0,
    settings: ReadSettings | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    own: Mapping[str, Judge] | None = None,
    highlights: Sequence[Group] = (),
    more: str = "",
    style: str = "",
) -> Path:
    """Write `index.html` and return its path.

    Args:
        folder: Where to write it; made if it is not there.
        evaluations: The data sets, of one detector.
        detect: That detector; called again with the frames that are shown, whose maps were not kept.
        rule: By which it decided.
        facts: Names and values, such as the model and the machine; text.
        notes: What else a reader must know; text.
        mask_above: Grey level above which a mask's pixel is a defect.
        settings: How pictures are read.
        progress: Called after each picture with the number of those drawn, and of all.
        own: Categories that another detector, with thresholds of its own, judged.
        highlights: Pictures of the first data set that come before the categories: the first group before any table,
            the others below the metrics.
        more: Further sections before the notes, as HTML.
        style: Of these.
    """
    judges, usual = own or {}, Judge(detect, rule)
    groups = _choose(evaluations, judges, usual)
    places = [
        (place[0], index) for place, each in groups.items() for group in each for index in group.indices
    ]
    chosen = list(dict.fromkeys([*((0, index) for group in highlights for index in group.indices), *places]))
    cards: dict[Place, str] = {}
    for done, (number, index) in enumerate(chosen, start=1):
        sample = evaluations[number].dataset.samples[index]
        judge = judges.get(sample.category, usual)
        cards[number, index] = _draw(sample, judge.detect, mask_above, settings)
        progress(done, len(chosen))
    parts = [_header(evaluations, None if judges else rule, facts)]
    parts += [_highlight(group, cards) for group in highlights[:1]]
    parts += [_summary(evaluation, number) for number, evaluation in enumerate(evaluations)]
    parts += [_highlight(group, cards) for group in highlights[1:]]
    parts.append(section("How to read the charts", _explanation(rule), color_scale()))
    for number, evaluation in enumerate(evaluations):
        parts += _categories(evaluation, number, judges, usual, groups, cards, several=len(evaluations) > 1)
    parts.append(more)
    parts.append(section("Notes", notes_list([*notes, *NOTES])))
    path = Path(folder) / INDEX
    with atomic_file(path) as temporary:
        temporary.write_text(
            page(TITLE, "\n".join(parts), style=CHART_STYLE + STYLE + style), encoding="utf-8"
        )
    return path


def _header(
    evaluations: Sequence[DatasetEvaluation], rule: Rule | None, facts: Sequence[tuple[str, str]]
) -> str:
    """`rule` is None where categories have their own."""
    images = sum(each.images for each in evaluations)
    names = ", ".join(each.dataset.name for each in evaluations)
    decided = f"A part is NG from {rule_words(rule)}" if rule else "Each product has thresholds of its own"
    lead = f"{names}: {images} images, judged one by one. {decided}."
    return f'<header><h1>{TITLE}</h1><p class="lead">{to_html(lead)}</p>{facts_list(facts)}</header>'


def _summary(evaluation: DatasetEvaluation, number: int) -> str:
    rows = shown_rows(evaluation)
    words = "Metrics in percent; a dash where one is undefined, as those of pixels without masks."
    if any(row.paper for row in rows):
        words += " Below a number stand the paper's and the difference to it."
    links = [_link(number, index) for index in range(len(evaluation.categories))]
    decided = [*decisions(evaluation), all_decisions(evaluation)]
    table = summary_table(rows, decided[: len(rows)], links)
    found = dataset_notes(evaluation)
    below = notes_list(found) if found else ""
    return section(evaluation.dataset.name, f'<p class="pale">{words}</p>', table, below, name=f"d{number}")


def _link(number: int, index: int) -> str:
    return f"d{number}-c{index}"


def _explanation(rule: Rule) -> str:
    words = (
        "The upright line is the threshold in use. Good parts are drawn above the axis: those right of the line are "
        "rejected. Defective ones are drawn below: those left of it are missed. The chart next to it says what any "
        "other threshold would do. The axis has equal steps in log-odds, which shows what "
        f"happens close to 0 and 1; what is closer than {to_probability(-LIMIT):.0e} is drawn at that distance."
    )
    if rule.peak_threshold is None:
        return f"<p>{words}</p><p>The circle on the ROC curve is what the verdicts did.</p>"
    both = (
        "Score and map peak have charts of their own, which say what either would do alone; a part is NG by either. "
        "The ROC curve of the images is that of the score alone. The circle is what the verdicts did, which the map "
        "peak decides too: it need not lie on the curve."
    )
    return f"<p>{words}</p><p>{both}</p>"


def _categories(
    evaluation: DatasetEvaluation,
    number: int,
    judges: Mapping[str, Judge],
    usual: Judge,
    groups: Mapping[Place, Sequence[Group]],
    cards: Mapping[Place, str],
    *,
    several: bool,
) -> list[str]:
    parts = []
    data = zip(evaluation.categories, shown_rows(evaluation), decisions(evaluation), strict=False)
    for index, (category, row, decided) in enumerate(data):
        link, rule = _link(number, index), judges.get(category.category, usual).rule
        figures = category_figures(row, decided, category)
        charts = category_charts(category, rule, name=link)
        pictures = [_group(group, number, cards) for group in groups[number, index]]
        heading = f"{evaluation.dataset.name}: {category.category}" if several else category.category
        beside = f'<div class="category">{figures}{charts}</div>'
        own = f'<p class="pale">NG from {to_html(rule_words(rule))}.</p>' if judges else ""
        parts.append(section(heading, own, beside, *pictures, name=link, up=f"d{number}"))
    return parts


def _highlight(group: Group, cards: Mapping[Place, str]) -> str:
    words = f'<p class="pale">{len(group.indices)} of {group.total}: {to_html(group.order)}.</p>'
    pictures = "".join(cards[0, index] for index in group.indices)
    return section(group.title, words, f'<div class="samples">{pictures}</div>')


def _group(group: Group, number: int, cards: Mapping[Place, str]) -> str:
    """Pictures under a heading that says how many of how many they are."""
    shown = f"{len(group.indices)} of {group.total} shown, {group.order}"
    pictures = "".join(cards[number, index] for index in group.indices)
    return f'<h3 class="group">{group.title} <span>{shown}</span></h3><div class="samples">{pictures}</div>'


def _choose(
    evaluations: Sequence[DatasetEvaluation], judges: Mapping[str, Judge], usual: Judge
) -> dict[Place, list[Group]]:
    """The groups of every category, by its number and its data set's, so many that the page stays small."""
    categories = [
        ((number, index), category)
        for number, evaluation in enumerate(evaluations)
        for index, category in enumerate(evaluation.categories)
    ]
    limit = MOST_CARDS // max(1, len(categories))
    return {
        place: choose_images(category, judges.get(category.category, usual).rule, limit=limit)
        for place, category in categories
    }


def _draw(sample: Sample, detect: Detect, mask_above: int, settings: ReadSettings | None) -> str:
    frame = load_sample(sample, settings)
    rows = f", rows {sample.rows[0]} to {sample.rows[1] - 1}" if sample.rows else ""
    title = f"{sample.defect}: {sample.path.name}{rows}"
    return small_card(
        make_card(sample, frame, detect(frame), title=title, mask_above=mask_above, settings=settings)
    )

"""The data sets of the AnomalyCLIP paper: their names, categories and sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from acl_runtime.data.samples import Sample
from acl_runtime.text.names import shorten

Counts = tuple[int, int]  # good and defective test images


@dataclass(frozen=True)
class PaperSet:
    """A data set of the paper, as Table 6 and its publishers describe it.

    Attributes:
        counts: Good and defective test images in all.
        categories: In each category, where its publisher's lists say; None where they do not.
        defects: The names that defects may have, where category names alone could be anybody's: per category
            or, under "", for all.
        remark: What to know of its masks.
    """

    counts: Counts
    categories: Mapping[str, Counts | None]
    defects: Mapping[str, frozenset[str]] = field(default_factory=dict)
    remark: str | None = None


def _unknown(names: str) -> dict[str, Counts | None]:
    return dict.fromkeys(names.split())


def _defects(**names: str) -> dict[str, frozenset[str]]:
    return {category: frozenset(listed.split()) for category, listed in names.items()}


PAPER_SETS: Mapping[str, PaperSet] = {
    "MVTec AD": PaperSet(
        (467, 1258),
        {
            "bottle": (20, 63),
            "cable": (58, 92),
            "capsule": (23, 109),
            "carpet": (28, 89),
            "grid": (21, 57),
            "hazelnut": (40, 70),
            "leather": (32, 92),
            "metal_nut": (22, 93),
            "pill": (26, 141),
            "screw": (41, 119),
            "tile": (33, 84),
            "toothbrush": (12, 30),
            "transistor": (60, 40),
            "wood": (19, 60),
            "zipper": (32, 119),
        },
        _defects(
            bottle="broken_large broken_small contamination",
            cable="bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable "
            "missing_wire poke_insulation",
            capsule="crack faulty_imprint poke scratch squeeze",
            carpet="color cut hole metal_contamination thread",
            grid="bent broken glue metal_contamination thread",
            hazelnut="crack cut hole print",
            leather="color cut fold glue poke",
            metal_nut="bent color flip scratch",
            pill="color combined contamination crack faulty_imprint pill_type scratch",
            screw="manipulated_front scratch_head scratch_neck thread_side thread_top",
            tile="crack glue_strip gray_stroke oil rough",
            toothbrush="defective",
            transistor="bent_lead cut_lead damaged_case misplaced",
            wood="color combined hole liquid scratch",
            zipper="broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth",
        ),
    ),
    "VisA": PaperSet(
        (962, 1200),
        {
            "candle": (100, 100),
            "capsules": (60, 100),
            "cashew": (50, 100),
            "chewinggum": (50, 100),
            "fryum": (50, 100),
            "macaroni1": (100, 100),
            "macaroni2": (100, 100),
            "pcb1": (100, 100),
            "pcb2": (100, 100),
            "pcb3": (101, 100),
            "pcb4": (101, 100),
            "pipe_fryum": (50, 100),
        },
        {"": frozenset({"bad", "anomaly"})},
    ),
    "MPDD": PaperSet(
        (176, 282),
        {
            "bracket_black": (32, 47),
            "bracket_brown": (26, 51),
            "bracket_white": (30, 30),
            "connector": (30, 14),
            "metal_plate": (26, 71),
            "tubes": (32, 69),
        },
        _defects(
            bracket_black="hole scratches",
            bracket_brown="bend_and_parts_mismatch parts_mismatch",
            bracket_white="defective_painting scratches",
            connector="parts_mismatch",
            metal_plate="major_rust scratches total_rust",
            tubes="anomalous",
        ),
    ),
    "BTAD": PaperSet((451, 290), {"01": (21, 49), "02": (30, 200), "03": (400, 41)}, {"": frozenset({"ko"})}),
    "SDD": PaperSet((181, 74), {"electrical commutators": (181, 74)}, {"": frozenset({"defect"})}),
    "DAGM": PaperSet(
        (6996, 1054),
        _unknown(" ".join(f"Class{number}" for number in range(1, 11))),
        remark="the masks of DAGM are coarse ellipses around the defects: pixel-level figures are no finer",
    ),
    "DTD-Synthetic": PaperSet(
        (357, 947),
        _unknown(
            "Blotchy_099 Fibrous_183 Marbled_078 Matted_069 Mesh_114 Perforated_037 Stratified_154 "
            "Woven_001 Woven_068 Woven_104 Woven_125 Woven_127"
        ),
        {"": frozenset({"bad"})},
    ),
    "ISIC": PaperSet((0, 379), {"skin": (0, 379)}),
    "CVC-ClinicDB": PaperSet((0, 612), {"colon": (0, 612)}),
    "CVC-ColonDB": PaperSet((0, 380), {"colon": (0, 380)}),
    "Kvasir": PaperSet((0, 1000), {"colon": (0, 1000)}),
    "Endo": PaperSet((0, 200), {"colon": (0, 200)}),
    "TN3K": PaperSet((0, 614), {"thyroid": (0, 614)}),
    "HeadCT": PaperSet((100, 100), {"brain": (100, 100)}),
    "BrainMRI": PaperSet((98, 155), {"brain": (98, 155)}),
    "Br35H": PaperSet((1500, 1500), {"brain": (1500, 1500)}),
    "COVID-19": PaperSet((1341, 219), {"chest": (1341, 219)}),
    "ColonDB+Endo": PaperSet((163, 380), {"colon": (163, 380)}),
}
ALIASES = {"electrical_commutators": "electrical commutators", "headct": "brain", "head_ct": "brain"}
POLYPS = {  # what the names of folders hold, without - and _; Endo is a part of many words
    "clinicdb": "CVC-ClinicDB",
    "colondb": "CVC-ColonDB",
    "kvasir": "Kvasir",
    r"^endo(tect|seg|test|\d|$)|colondb.?endo": "Endo",
}
BRAINS = {"headct": "HeadCT", "brainmri": "BrainMRI", "braintumordataset": "BrainMRI", "br35h": "Br35H"}


def name_by_categories(samples: Sequence[Sample], *, among: Iterable[str] = PAPER_SETS) -> str | None:
    """The paper's name of the one data set that has all these categories and these defects; else None."""
    fitting = [name for name in among if _fits(PAPER_SETS[name], samples)]
    return fitting[0] if len(fitting) == 1 else None


def names_in_folder(root: Path, known: Mapping[str, str]) -> set[str]:
    """The paper's names of the data sets that a folder is named after, as `CVC-ClinicDB` or `clinic_db_1`."""
    words = re.sub(r"[-_ .]", "", root.resolve().name.lower())
    return {name for part, name in known.items() if re.search(part, words)}


def name_by_folder(root: Path, known: Mapping[str, str]) -> str | None:
    """The paper's name of the one data set that a folder is named after; None if it is none or several."""
    names = names_in_folder(root, known)
    return names.pop() if len(names) == 1 else None


def count(samples: Iterable[Sample]) -> Counts:
    """Good and defective ones."""
    by_label = Counter(sample.label for sample in samples)
    return by_label[0], by_label[1]


def missing_categories(name: str, categories: Iterable[str]) -> list[str]:
    """Those of the paper's that are not among these; its mean is over all of them."""
    present = set(categories)
    return [category for category in PAPER_SETS[name].categories if category not in present]


def compare_with_paper(name: str, samples: Sequence[Sample]) -> list[str]:
    """Notes on a data set of the paper: what its masks are, what is missing, what differs in number."""
    paper = PAPER_SETS[name]
    missing = missing_categories(name, (sample.category for sample in samples))
    notes = [] if paper.remark is None else [paper.remark]
    if missing:
        those = f"{len(missing)} of the {len(paper.categories)} categories of {name} are missing"
        notes.append(f"{those} ({', '.join(missing)}), so the mean is not the paper's")
    return notes + _compare_counts(name, samples, complete=not missing)


def _compare_counts(name: str, samples: Sequence[Sample], *, complete: bool) -> list[str]:
    paper, here = PAPER_SETS[name], count(samples)
    by_category = _differing(paper, samples)
    if complete and here != paper.counts:
        note = f"here {name} has {_say(here)} images, in the paper {_say(paper.counts)}"
        several = by_category and len(paper.categories) > 1
        return [f"{note}; different: {shorten(by_category)}" if several else note]
    return [f"not as many images as in the paper: {shorten(by_category)}"] if by_category else []


def _differing(paper: PaperSet, samples: Sequence[Sample]) -> list[str]:
    """The categories that have more or fewer images than in the paper, and how many."""
    here = {category: count(s for s in samples if s.category == category) for category in paper.categories}
    return [
        f"{category} ({_say(here[category])}, not {_say(wanted)})"
        for category, wanted in paper.categories.items()
        if wanted is not None and here[category] not in (wanted, (0, 0))
    ]


def _say(counts: Counts) -> str:
    return f"{counts[0]} good and {counts[1]} defective"


def _fits(paper: PaperSet, samples: Sequence[Sample]) -> bool:
    """Categories alone could be anybody's, so where the paper's defects are known there must be some."""
    bad = {(sample.category, sample.defect) for sample in samples if sample.label}
    if paper.defects and not bad:
        return False
    names = {category: paper.defects.get(category, paper.defects.get("")) for category, _ in bad}
    return {sample.category for sample in samples} <= paper.categories.keys() and all(
        (allowed := names[category]) is None or defect in allowed for category, defect in bad
    )

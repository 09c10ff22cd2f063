"""A short form of the attack with damaged images; the long one is `python tests/attack/image_files.py`."""

from __future__ import annotations

from image_files import attack


def test_a_damaged_image_is_a_frame_or_is_refused_in_one_sentence() -> None:
    outcome = attack(seed=7, count=600)
    assert outcome.frames + outcome.refused == 600
    assert outcome.frames > 50  # the attack reaches the decoders
    assert len(outcome.kinds) == 8

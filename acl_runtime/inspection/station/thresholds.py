"""The thresholds of a station, changed while it runs: by hand, to those before, or to what was proposed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from acl_runtime.bundle.bundle import Bundle, reload_bundle
from acl_runtime.calibration.change import ChangedError, adopt, set_by_hand, take_back
from acl_runtime.calibration.record import FOLDER, ByHand, read_record
from acl_runtime.files.errors import BundleError, InputError
from acl_runtime.inspection.station.judge import Engine
from acl_runtime.inspection.station.proposal import Proposer
from acl_runtime.inspection.station.station_file import StationSection
from acl_runtime.outputs.station import ConflictError, Proposal, ThresholdsChange, ThresholdsNow
from acl_runtime.scoring.rule import Rule, bundle_rule, rule_words

LOG = logging.getLogger("acl")
How = Literal["set by hand", "measured anew", "taken back", "read again"]


class StationThresholds:
    """Changes them one at a time, from any thread: in the bundle first, then in the engine, between two frames.

    See `ThresholdsControl`.
    """

    def __init__(
        self,
        section: StationSection,
        engine: Engine,
        proposer: Proposer,
        changed: Callable[[ThresholdsChange], None],
    ) -> None:
        """Begin with those that the engine has.

        Args:
            section: Of the station.
            engine: Judges with them.
            proposer: Works out others.
            changed: Told of each change that is in force.
        """
        self._section, self._engine, self._proposer, self._changed = section, engine, proposer, changed
        self._lock = threading.Lock()
        self._bundle = engine.detector.bundle
        self.now = self._describe()

    def set(
        self, score: float, peak: float | None, *, seen: str, by: str, effect: tuple[int, int]
    ) -> ThresholdsNow:
        """Set them by hand; see `ThresholdsControl`."""
        by_hand = ByHand(by=by, changed=effect[0], parts=effect[1])

        def change() -> Bundle:
            detector = self._engine.detector.with_calibration(self._bundle, None)
            return set_by_hand(detector, Rule(score, peak), by_hand)

        return self._change("set by hand", change, seen=seen, by=by)

    def restore(self, *, seen: str, by: str) -> ThresholdsNow:
        """Take them back; see `ThresholdsControl`."""
        return self._change("taken back", lambda: take_back(self._bundle), seen=seen, by=by)

    def accept(self, *, seen: str, proposal: str, by: str) -> ThresholdsNow:
        """Take those that were proposed; see `ThresholdsControl`."""

        def change() -> Bundle:
            return adopt(self._bundle, self._proposer.measured(proposal))

        now = self._change("measured anew", change, seen=seen, by=by)
        self._proposer.drop()
        return now

    @property
    def proposal(self) -> Proposal | None:
        """Those that are worked out, or wait to be accepted."""
        return self._proposer.proposal

    def drop(self) -> None:
        """Forget what was proposed, or end working it out."""
        self._proposer.drop()

    def propose(self, evidence: Path) -> None:
        """Begin to work out others; see `ThresholdsControl`."""
        self._check()
        self._proposer.begin(self._bundle, evidence)

    def read_again(self) -> None:
        """Take over what a command made of the bundle's calibration meanwhile."""
        with self._lock:
            bundle = reload_bundle(self._bundle, FOLDER)
            if bundle.manifest.calibration != self._bundle.manifest.calibration:
                if self.now.fixed:
                    LOG.warning("the thresholds in %s changed: %s", bundle.path, self.now.fixed)
                else:
                    self._take_over("read again", bundle, by="SIGHUP")

    def _change(self, how: How, change: Callable[[], Bundle], *, seen: str, by: str) -> ThresholdsNow:
        with self._lock:
            self._check()
            if seen != self.now.record:
                who = f", set by {self.now.by}" if self.now.by else ""
                words = f"{rule_words(Rule(self.now.score, self.now.peak))}{who}"
                raise ConflictError(f"other thresholds are in force by now ({words}); look at them first")
            try:
                bundle = change()
            except (ChangedError, BundleError) as error:
                raise ConflictError(str(error)) from error
            except OSError as error:  # a disk that is full; manifest and thresholds are as they were
                raise InputError(f"{self._bundle.path}: cannot be written ({error}); make room") from error
            return self._take_over(how, bundle, by=by)

    def _check(self) -> None:
        if self.now.fixed:
            raise InputError(self.now.fixed)

    def _take_over(self, how: How, bundle: Bundle, *, by: str) -> ThresholdsNow:
        before = self.now
        self._engine.take_over(bundle)
        self._bundle = bundle
        self.now = self._describe()
        old, new = (rule_words(Rule(each.score, each.peak)) for each in (before, self.now))
        LOG.warning("thresholds %s by %s: NG from %s becomes %s; %s", how, by, old, new, self.now.statement)
        self._changed(ThresholdsChange(at=time.time(), by=by, how=how, before=before, now=self.now))
        return self.now

    def _describe(self) -> ThresholdsNow:
        calibration, record = self._bundle.manifest.calibration, read_record(self._bundle)
        fixed, rule, words = "", bundle_rule(calibration), calibration.source
        if self._section.mode == "web":
            fixed = "thresholds of a web are set with acl calibrate --web, and count after a restart"
        elif self._section.threshold is not None:
            rule = Rule(self._section.threshold, None)
            fixed = words = (
                "the station's file sets a threshold, which nothing is promised of; take it out of the file first"
            )
        return ThresholdsNow(
            score=rule.score_threshold,
            peak=rule.peak_threshold,
            statement="The default, an arbitrary number, no promise."
            if record is None and not fixed
            else words,
            record=calibration.record or "",
            created="" if record is None else record.created,
            by="" if record is None or record.by_hand is None else record.by_hand.by,
            fixed=fixed,
        )

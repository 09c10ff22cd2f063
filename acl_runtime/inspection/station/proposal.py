"""New thresholds from reviewed parts: `acl calibrate` on a copy of the bundle, in a process that gives way to all."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.calibration.conformal import Demand
from acl_runtime.calibration.record import CalibrationRecord, read_record
from acl_runtime.calibration.report import report_lines
from acl_runtime.files.errors import InputError, UserError
from acl_runtime.files.locks import LOCK
from acl_runtime.inspection.station.station_file import StationSection
from acl_runtime.outputs.evidence.export import Exported, export_images
from acl_runtime.outputs.evidence.reader import EvidenceReader
from acl_runtime.outputs.station import BusyError, ConflictError, Proposal
from acl_runtime.scoring.rule import bundle_rule

LOG = logging.getLogger("acl")
FOLDER = "proposal"  # in the station's data folder
_WORKING = Proposal(
    state="working", words="the reviewed parts are judged anew; the station goes on meanwhile"
)
_PICTURE = re.compile(r"parts[/\\](?:good|bad)[/\\]0*(\d+)\.\w+")
NICENESS = 19  # of the process: whoever judges has the processor first
_RUN = """
import os
if hasattr(os, "setpriority"):
    os.setpriority(os.PRIO_PROCESS, 0, {niceness})
from acl_runtime.cli import app
app()
"""


class Proposer:
    """Works out one proposal at a time, in a thread that waits for the process."""

    def __init__(self, section: StationSection) -> None:
        """Begin without a proposal; what a process before left is deleted."""
        self._section, self._folder = section, section.data / FOLDER
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._is_dropped = False
        self.proposal: Proposal | None = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self, bundle: Bundle, evidence: Path) -> None:
        """Begin; `proposal` says how it goes.

        Args:
            bundle: As the station judges with it.
            evidence: Folder of the store.

        Raises:
            BusyError: One is being worked out.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise BusyError(
                    "new thresholds are being worked out already; wait for them, or drop them first"
                )
            self._is_dropped, self.proposal = False, _WORKING
            self._thread = threading.Thread(
                target=self._guard, args=(bundle, evidence), name="proposal", daemon=True
            )
            self._thread.start()

    def measured(self, proposal: str) -> Path:
        """The bundle's copy with the thresholds that are proposed.

        Args:
            proposal: Its `id`.

        Raises:
            ConflictError: Another is there by now.
            InputError: None is.
        """
        there = self.proposal
        if there is None or there.state != "ready":
            raise InputError("no thresholds are proposed; work them out first")
        if there.id != proposal:
            raise ConflictError("other thresholds are proposed by now; look at them first")
        return self._folder / "bundle"

    def drop(self) -> None:
        """End the work, and forget what was proposed."""
        with self._lock:
            self._is_dropped, self.proposal = True, None
            if self._process is not None:
                self._process.kill()
        if self._thread is not None:
            self._thread.join(2)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _guard(self, bundle: Bundle, evidence: Path) -> None:
        try:
            found = self._work(bundle, evidence)
        except (UserError, OSError) as error:
            found = Proposal(state="failed", words=str(error))
        if found.state == "failed":
            shutil.rmtree(self._folder, ignore_errors=True)  # the disk may be full of it
        with self._lock:
            if self._is_dropped:  # whoever dropped it may not have waited for the last file
                shutil.rmtree(self._folder, ignore_errors=True)
            else:
                self.proposal = found
                LOG.info(
                    "new thresholds %s: %s",
                    "failed" if found.state == "failed" else "are proposed",
                    found.words,
                )

    def _work(self, bundle: Bundle, evidence: Path) -> Proposal:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        parts = self._folder / "parts"
        exported = export_images(EvidenceReader(evidence), parts, samples=True, copy=_link)
        copy_bundle(bundle.path, self._folder / "bundle")
        self._calibrate(bundle, exported)
        shutil.rmtree(parts)
        measured = load_bundle(self._folder / "bundle")
        record = read_record(measured)
        assert record is not None
        rule = bundle_rule(measured.manifest.calibration)
        return Proposal(
            state="ready",
            words=record.statement,
            score=rule.score_threshold,
            peak=rule.peak_threshold,
            facts=(*_counted(exported), *map(name_parts, report_lines(record)[1:])),
            id=secrets.token_hex(8),
        )

    def _calibrate(self, bundle: Bundle, exported: Exported) -> None:
        code = _RUN.format(niceness=NICENESS)
        command = [sys.executable, "-c", code, *arguments(self._section, read_record(bundle), exported)]
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._lock:
            if self._is_dropped:
                raise InputError("was dropped")
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
                start_new_session=True,
            )
        with self._process as process:
            _, said = process.communicate()
        if process.returncode != 0:
            lines = said.strip().splitlines()
            raise InputError(lines[-1] if lines else f"acl calibrate ended with {process.returncode}")


def arguments(section: StationSection, record: CalibrationRecord | None, exported: Exported) -> list[str]:
    """What `acl calibrate` is asked, in the folder with the copy and the parts: as the calibration before."""
    demand = (
        Demand() if record is None else Demand(record.max_overkill, record.confidence, record.hidden_defects)
    )
    asked = ["calibrate", "bundle", "parts/good"]
    asked += ["--defective", "parts/bad"] if exported.bad else []
    asked += ["--max-overkill", f"{demand.max_overkill!r}", "--confidence", f"{demand.confidence!r}"]
    asked += ["--hidden-defects", f"{demand.hidden_defects}"]
    asked += [] if record is None else _of_method(record)
    asked += ["--fast-resize"] if section.fast_resize else []
    asked += [] if section.triton is None else ["--triton", section.triton]
    return [*asked, "--backend", section.backend, "--provider", section.provider]


def _of_method(record: CalibrationRecord) -> list[str]:
    """What else decides about scores; a memory that others were merged into stays as it is, as these may be gone."""
    asked = [] if record.ignore is None else ["--ignore", f"bundle/{record.ignore}"]
    memory = record.memory
    if memory is None:
        return asked
    if memory.merged:
        asked += ["--merge", f"bundle/{memory.file}"]
    else:
        asked += ["--memory", f"{len(memory.sources)}"]
    is_chosen = memory.chosen_by == "user" or memory.merged
    return [*asked, *(["--memory-kind", memory.kind] if is_chosen else [])]


def copy_bundle(bundle: Path, copy: Path) -> None:
    """Copy a bundle; its large files, which nothing changes, are linked where both are on one disk."""

    shutil.copytree(bundle, copy, copy_function=_link, ignore=shutil.ignore_patterns(LOCK))


def _link(source: Path | str, target: Path | str) -> None:
    """Let a file that nobody writes to have another name; a copy on another disk, or one without hard links."""
    with suppress(OSError):
        os.link(os.path.realpath(source), target)  # never a link to the link, which would be written through
        return
    shutil.copyfile(source, target)


def name_parts(line: str) -> str:
    """A line of a report with the parts' numbers, which the page shows, in the place of files that are gone by then."""
    return _PICTURE.sub(r"part \1", line)


def _counted(exported: Exported) -> list[str]:
    facts = [
        f"from {exported.good} parts reviewed as good and {exported.samples} OK samples that nobody reviewed; "
        f"{exported.bad} reviewed defects count escapes"
    ]
    if exported.open_samples:
        facts.append(
            f"{exported.open_samples} samples were NG and nobody reviewed them: good ones among them are missing, "
            "which makes the promise too good; review them first"
        )
    if exported.without_picture:
        facts.append(f"{exported.without_picture} reviewed parts have no picture and do not count")
    return facts

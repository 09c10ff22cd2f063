"""Say in a few lines what a bundle is."""

from __future__ import annotations

import os

from acl_runtime.backends.tensorrt.certificate import find_certificate
from acl_runtime.backends.tensorrt.engine_file import Engine, is_of, list_engines
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import Parity
from acl_runtime.bundle.words import (
    input_words,
    map_words,
    memory_words,
    network_words,
    normalisation_words,
    parity_words,
    prompts_words,
    tiling_words,
)
from acl_runtime.calibration.record import CalibrationRecord, read_record
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.files.errors import InputError
from acl_runtime.scoring.rule import bundle_rule, rule_words
from acl_runtime.text.names import printable, shorten


def drift_words(parity: Parity) -> str:
    """How far a graph moves the metrics."""
    if parity.drift is None:
        return "not measured; acl export --drift DATA"
    points = ", ".join(
        f"{METRICS.get(name, name)} {100 * value:+.3f}" for name, value in parity.drift.metrics.items()
    )
    return f"{points} points on {parity.drift.images} images of {', '.join(parity.drift.data)}"


def engine_words(bundle: Bundle) -> str:
    """The bundle's engines and whether they are proven; a certificate holds on one machine, see `acl doctor`."""
    engines = list_engines(bundle)
    words = [f"{engine.path.name} ({proof_words(engine, bundle)})" for engine in engines.whole]
    words += [f"broken: {problem}" for problem in engines.broken]
    return ", ".join(words) or "none; acl build"


def proof_words(engine: Engine, bundle: Bundle) -> str:
    """What an engine's certificate says."""
    if not is_of(engine.record, bundle):
        return "of another graph; acl build"
    try:
        certificate = find_certificate(engine, bundle)
    except InputError as error:
        return f"broken: {error}"
    if certificate is None:
        return "not proven yet"
    own = f", with {certificate.own_images} images of the line" if certificate.own_images else ""
    return f"{'proven' if certificate.holds else 'refused'} on {certificate.subject.gpu}{own}"


def threshold_words(bundle: Bundle, record: CalibrationRecord | None) -> str:
    """What the thresholds promise, and when and on which images they were measured."""
    if record is None:
        score = bundle.manifest.calibration.score_threshold
        return f"default, an arbitrary {score:.4g}; run acl calibrate on images of good parts"
    if record.by_hand is not None:
        return f"{record.statement} Before: {_before_words(record)} ({bundle.manifest.calibration.record})"
    folders = sorted({os.path.dirname(source) or "." for source in record.good.source})
    count = f"{record.images} good images in {shorten(folders)}"
    if not bundle.manifest.backbone.inspection:
        count += ", for a demonstration: they say nothing about other products"
    return f"of {record.created[:10]}, {count}: {record.statement} ({bundle.manifest.calibration.record})"


def kind_words(record: CalibrationRecord | None) -> str:
    """Which kind of memory a calibration made, and of how many images; nothing where it made none."""
    if record is None or record.memory is None:
        return ""
    images = record.memory.images
    return f"; {record.memory.kind}, of {images} image{'s' if images > 1 else ''}"


def _before_words(record: CalibrationRecord) -> str:
    before = record.previous_calibration
    return f"{rule_words(bundle_rule(before))} ({before.record or 'the default'})"


def describe(bundle: Bundle) -> str:
    """The facts a user of the bundle asks for, a line each; all of them are in its manifest."""
    manifest = bundle.manifest
    backbone, calibration, record = manifest.backbone, manifest.calibration, read_record(bundle)
    megabytes = sum(record.bytes for record in manifest.files.values()) / 1e6
    facts = {
        "bundle": f"{bundle.path}, {megabytes:.1f} MB, every file as its manifest says",
        "backbone": f"{backbone.name}, weights {backbone.weights}",
        "network": network_words(manifest),
        "fit to inspect": "yes" if backbone.inspection else f"no: {backbone.note}",
        "prompts": prompts_words(manifest),
        "input": input_words(manifest),
        "normalised": normalisation_words(manifest),
        "pixels": "as stored, whatever an orientation tag says (--exif turns them); 8 bits, of deeper ones the upper 8 "
        "(--bits)",
        "map": map_words(manifest),
        "graph": f"head {manifest.head}, {manifest.precision}, opset {manifest.opset}",
        "anomalous from": rule_words(bundle_rule(calibration)),
        "regions from": f"map {calibration.regions_from:.4g}",
        "frames": tiling_words(calibration.tiling),
        "thresholds": threshold_words(bundle, record),
        "memory": memory_words(manifest) + kind_words(record),
        "ignored": calibration.ignore or "nothing of a frame",
        "parity": parity_words(manifest.parity),
        "drift": drift_words(manifest.parity),
        "for engines": ", then ".join(manifest.arithmetics()),
        "on request": ", ".join(manifest.on_request) or "no other graphs",
        "engines": engine_words(bundle),
        "created": f"{manifest.created} with {', '.join(f'{k} {v}' for k, v in manifest.tools.items())}",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {printable(fact)}" for name, fact in facts.items())

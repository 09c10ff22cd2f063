"""Say in a few lines what a bundle is."""

from __future__ import annotations

from acl_runtime.backends.tensorrt.certificate import read_certificate
from acl_runtime.backends.tensorrt.engine_file import Engine, list_engines
from acl_runtime.bundle.bundle import Bundle
from acl_runtime.bundle.manifest import Manifest, Parity, Tiling
from acl_runtime.detection.detector import bundle_rule
from acl_runtime.evaluation.metrics import METRICS
from acl_runtime.scoring.rule import rule_words


def tiling_words(tiling: Tiling | None) -> str:
    """How frames are cut."""
    if tiling is None:
        return "each squashed whole"
    overlap = "a quarter" if tiling.overlap is None else f"{tiling.overlap} pixels"
    tile = f"of {tiling.tile} pixels" if isinstance(tiling.tile, int) else "chosen by the frame's size"
    defect = f", for defects from {tiling.min_defect} pixels" if tiling.min_defect is not None else ""
    return f"cut into tiles {tile} that share {overlap}{defect}"


def input_words(manifest: Manifest) -> str:
    """What the graph takes."""
    network = f"{manifest.image_size} x {manifest.image_size} pixels"
    if manifest.frame_size is not None:
        height, width = manifest.frame_size
        network = f"frames of {width} x {height} pixels, which the graph resizes to {network}"
    return f"{network}, up to {manifest.max_batch} at once"


def map_words(manifest: Manifest) -> str:
    """Where the map comes from."""
    grid = f"a {manifest.grid} x {manifest.grid} grid"
    if manifest.windows:
        return f"windows of {' and '.join(map(str, manifest.windows))} patches on {grid}"
    return f"layers {', '.join(map(str, manifest.layers))} on {grid}"


def prompts_words(manifest: Manifest) -> str:
    """Which prompts the bundle has; bundles older than the methods have those of AnomalyCLIP."""
    prompts = manifest.prompts
    named = f" of {prompts['category']}" if "category" in prompts else ""
    named += ", decoupled vectors" if prompts.get("learns") == "vectors" else ""
    return f"{prompts.get('method', 'anomalyclip')}{named}, recipe {prompts['recipe']}, sha256 {prompts['sha256'][:12]}"


def memory_words(manifest: Manifest) -> str:
    """Whether good parts are remembered."""
    if manifest.calibration.memory is None:
        return "none, the text judges alone"
    return f"patches of good parts ({manifest.calibration.memory}), which judge with the text"


def parity_words(parity: Parity) -> str:
    """How close a graph is to torch."""
    return (
        f"log-odds within {parity.image_logits:.1e}, map within {parity.anomaly_map:.1e} of {parity.reference}, on "
        f"{parity.frames} frames"
    )


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
    words = [f"{engine.path.name} ({proof_words(engine)})" for engine in list_engines(bundle)]
    return ", ".join(words) or "none; acl build"


def proof_words(engine: Engine) -> str:
    """What an engine's certificate says."""
    certificate = read_certificate(engine)
    if certificate is None:
        return "not proven yet"
    return f"{'proven' if certificate.holds else 'refused'} on {certificate.subject.gpu}"


def describe(bundle: Bundle) -> str:
    """The facts a user of the bundle asks for, a line each; all of them are in its manifest."""
    manifest = bundle.manifest
    backbone, calibration = manifest.backbone, manifest.calibration
    megabytes = sum(record.bytes for record in manifest.files.values()) / 1e6
    facts = {
        "bundle": f"{bundle.path}, {megabytes:.1f} MB, every file as its manifest says",
        "backbone": f"{backbone.name}, weights {backbone.weights}",
        "fit to inspect": "yes" if backbone.inspection else f"no: {backbone.note}",
        "prompts": prompts_words(manifest),
        "input": input_words(manifest),
        "map": map_words(manifest),
        "graph": f"head {manifest.head}, {manifest.precision}, opset {manifest.opset}",
        "anomalous from": rule_words(bundle_rule(calibration)),
        "regions from": f"map {calibration.map_threshold:.4g}",
        "frames": tiling_words(calibration.tiling),
        "thresholds": "default, measured on nothing; run acl calibrate"
        if calibration.record is None
        else f"{calibration.source} ({calibration.record})",
        "memory": memory_words(manifest),
        "parity": parity_words(manifest.parity),
        "drift": drift_words(manifest.parity),
        "for engines": ", then ".join(manifest.arithmetics()),
        "engines": engine_words(bundle),
        "created": f"{manifest.created} with {', '.join(f'{k} {v}' for k, v in manifest.tools.items())}",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items())

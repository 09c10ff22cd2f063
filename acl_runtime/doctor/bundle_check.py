"""What a bundle needs, and whether this machine has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from acl_runtime.backends.tensorrt.certificate import find_certificate
from acl_runtime.backends.tensorrt.engine_file import Engine, Engines, Place, list_engines, why_unfit
from acl_runtime.bundle.bundle import ENGINES, Bundle, load_bundle
from acl_runtime.bundle.manifest import QUANTIZED
from acl_runtime.bundle.words import network_words
from acl_runtime.doctor.findings import SWAP, SWAP_BYTES, Finding, Severity
from acl_runtime.doctor.gpu_memory import MemoryNeed, predict_memory
from acl_runtime.doctor.machine import Gpu, Machine
from acl_runtime.files.errors import InputError, UserError


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """An engine of the bundle."""

    name: str
    library: str
    library_version: str
    arithmetic: str
    batch: str
    unfit: str  # why this machine cannot load it; empty if it can, as far as is known without loading it
    proof: str  # "holds", "refused", "none", "damaged"; of the GPU that the certificate is about


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """A bundle, without its path."""

    name: str
    precision: str
    network: str  # its activation and heads, and what both are known from
    inspection: bool  # false: a demonstration
    arithmetics: tuple[str, ...]
    engines: tuple[EngineFacts, ...]
    need: MemoryNeed  # of an engine for one image


def check_bundle(path: Path, machine: Machine) -> tuple[BundleFacts | None, list[Finding]]:
    """Read a bundle and say what it lacks here; no facts if it cannot be read."""
    try:
        bundle = load_bundle(path)
        engines = list_engines(bundle)
        facts = BundleFacts(
            name=bundle.path.resolve().name,
            precision=bundle.manifest.precision,
            network=network_words(bundle.manifest),
            inspection=bundle.manifest.backbone.inspection,
            arithmetics=bundle.manifest.arithmetics(),
            engines=tuple(_engine_facts(engine, bundle, machine) for engine in engines.whole),
            need=predict_memory(bundle, bundle.manifest.precision, 1),
        )
    except (OSError, UserError) as error:
        text = str(error).replace(str(Path.home()), "~")
        return None, [Finding(Severity.error, "bundle", text, "export or copy the bundle again")]
    findings = [*_fitness(facts), *_broken(engines, path), *_engines(facts, path, machine)]
    return facts, [*findings, *_memory(facts, path, machine)]


def _fitness(facts: BundleFacts) -> Iterator[Finding]:
    if not facts.inspection:
        yield Finding(
            Severity.warning,
            "demonstration",
            f"{facts.name} is a demonstration, not for inspection",
            "acl train or acl convert with --backbone ViT-L-14-336 --weights openai, then acl export",
        )


def _broken(engines: Engines, path: Path) -> Iterator[Finding]:
    for problem in engines.broken:
        yield Finding(Severity.warning, "engine-broken", hide_folder(problem, path), _build(path))


def _build(path: Path) -> str:
    return f"acl build {quote(str(path))}"


def hide_folder(text: str, path: Path) -> str:
    """A sentence or command in which the bundle goes by its name alone, without the folders that it lies in."""
    home = str(Path.home())
    spellings = {
        str(path),
        str(path).replace(home, "~"),
        str(path.resolve()),
        str(path.resolve()).replace(home, "~"),
    }
    whole = "|".join(re.escape(each) for each in sorted(spellings, key=len, reverse=True))
    return re.sub(rf"(?<![^\s'\"])(?:{whole})(?=[/:;,\s'\"]|$)", lambda _: path.resolve().name, text)


def _engine_facts(engine: Engine, bundle: Bundle, machine: Machine) -> EngineFacts:
    record = engine.record
    batch = (
        f"{record.min_batch}..{record.max_batch}"
        if record.min_batch < record.max_batch
        else f"{record.max_batch}"
    )
    return EngineFacts(
        name=engine.path.name,
        library=record.library,
        library_version=record.library_version,
        arithmetic=record.arithmetic,
        batch=batch,
        unfit=_why_unfit(engine, bundle, machine),
        proof=_proof(engine, bundle),
    )


def _proof(engine: Engine, bundle: Bundle) -> str:
    """What its certificate says, see `EngineFacts`."""
    try:
        certificate = find_certificate(engine, bundle)
    except InputError:
        return "damaged"
    return "none" if certificate is None else "holds" if certificate.holds else "refused"


def _why_unfit(engine: Engine, bundle: Bundle, machine: Machine) -> str:
    """The reason that the first of the GPUs gives; empty if one of them will do."""
    library = engine.record.library
    if library not in machine.libraries:
        return f"needs {library}, which cannot be imported here"
    if not machine.gpus:
        return "needs a GPU"
    version = machine.libraries[library]
    places = [
        Place(
            library,
            version,
            _cuda_name(gpu, machine),
            gpu.compute_capability,
            memory_bytes=gpu.memory_bytes,
        )
        for gpu in machine.gpus
    ]
    reasons = [why_unfit(engine, bundle, place) for place in places]
    return "" if "" in reasons else reasons[0].partition(";")[0]


def _cuda_name(gpu: Gpu, machine: Machine) -> str | None:
    return None if machine.jetson else gpu.name  # a board's name is not what CUDA calls its GPU


def _engines(facts: BundleFacts, path: Path, machine: Machine) -> Iterator[Finding]:
    anew, folder = _build(path), quote(str(path))
    fitting = [engine for engine in facts.engines if not engine.unfit]
    for engine in fitting:
        if engine.proof == "refused":
            text = f"{engine.name} does not compute what was trained, by its certificate"
            yield Finding(Severity.error, "engine-refused", text, anew)
        elif engine.proof == "damaged":
            name = f"{engine.name.removesuffix('.engine')}.certificate.json"
            text = f"{name} is damaged or was edited, so that the engine is not used; without it, it is proven anew"
            yield Finding(
                Severity.error, "certificate-damaged", text, f"rm {quote(str(path / ENGINES / name))}"
            )
        elif engine.proof == "none":
            text = f"{engine.name} has no certificate yet; it is proven at its first load"
            first = f"acl run {folder} IMAGE"
            if engine.arithmetic in QUANTIZED:
                first = f"acl qualify {folder} --backend tensorrt-{engine.arithmetic} --data LABELLED_IMAGES"
            yield Finding(Severity.hint, "engine-unproven", text, first)
    if any(engine.arithmetic not in QUANTIZED for engine in fitting):
        return
    if not (machine.gpus and machine.libraries):
        return
    if fitting:  # none of which --backend auto takes, nor acl qualify has anything to compare with
        text = "the bundle has engines of eight bits for this machine, and none of its own arithmetic beside them"
        yield Finding(Severity.warning, "no-engine", text, anew)
        return
    others = f": {facts.engines[0].name} {facts.engines[0].unfit}" if facts.engines else ""
    yield Finding(Severity.warning, "no-engine", f"the bundle has no engine for this machine{others}", anew)


def _memory(facts: BundleFacts, path: Path, machine: Machine) -> Iterator[Finding]:
    if not (machine.gpus and machine.libraries):
        return
    need, available, swap = facts.need, machine.available_bytes, machine.swap_bytes or 0
    wanted = need.building if machine.jetson else need.builder
    if available is not None and wanted > available + swap:
        yield Finding(
            Severity.warning,
            "build-memory",
            f"building takes about {wanted / 1e9:.1f} GB, {(available + swap) / 1e9:.1f} GB are free with swap; on a "
            "small board build one image at a time, with --workspace 256",
            SWAP if swap < SWAP_BYTES else "sudo systemctl isolate multi-user.target",
        )
    free = [gpu.free_bytes for gpu in machine.gpus if gpu.free_bytes is not None]
    if free and need.running > max(free):
        yield Finding(
            Severity.warning,
            "gpu-memory",
            f"one image at a time takes about {need.running / 1e9:.1f} GB of the GPU's memory, "
            f"{max(free) / 1e9:.1f} GB are free",
            "nvidia-smi",
        )

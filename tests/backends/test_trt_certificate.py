"""A certificate says how far an engine is from torch, for what, and is made again when that is another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from graphs import write_tiny_bundle
from standin_cuda import StandinCuda
from standin_trt import Fault, make_standin_engine, standin_library

from acl_runtime.backends.session import Brief
from acl_runtime.backends.tensorrt.certificate import (
    Certificate,
    certify,
    find_certificate,
    prove,
    read_certificate,
    subject_of,
    write_certificate,
)
from acl_runtime.backends.tensorrt.engine_file import Engine, is_of
from acl_runtime.backends.tensorrt.session import TrtSession
from acl_runtime.bundle.bundle import Bundle, load_bundle
from acl_runtime.commands.describe import proof_words


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_tiny_bundle(tmp_path / "bundle"))


def load(bundle: Bundle, engine: Engine, *, cuda: StandinCuda | None = None) -> TrtSession:
    return TrtSession(bundle, engine, library=standin_library(), cuda=cuda or StandinCuda())


def certificate_of(bundle: Bundle, fault: Fault | None = None, **options: Any) -> Certificate:
    with load(bundle, make_standin_engine(bundle, fault=fault, **options)) as session:
        return certify(session, bundle, lambda done, total: None)


def test_a_right_engine_holds_at_every_batch_size(bundle: Bundle) -> None:
    certificate = certificate_of(bundle, batch=(1, 3))
    assert certificate.holds
    assert certificate.failures() == []
    assert [result.batch for result in certificate.batches] == [1, 2, 3]
    assert 0 < certificate.worst["image_logits"] < 1e-4
    assert 0 < certificate.worst["anomaly_map"] < 1e-5
    assert certificate.subject.gpu == "Stand-in GPU"
    assert certificate.tolerance == bundle.manifest.parity.tolerance
    assert certificate.images == 2


def test_progress_is_told(bundle: Bundle) -> None:
    told = []
    with load(bundle, make_standin_engine(bundle, batch=(1, 3))) as session:
        certify(session, bundle, lambda done, total: told.append((done, total)))
    assert told == [(number, 12) for number in range(1, 13)]  # in two slots 1, 2, 3 images, and 1, 3, 1 again


def test_what_a_larger_batch_leaves_behind_is_noticed(bundle: Bundle) -> None:
    certificate = certificate_of(bundle, Fault("stale", amount=0.5))
    assert certificate.failures()[0] == "image_logits off by 0.5 at batch 1, at most 0.001 is accepted"


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault("offset", amount=0.5), "image_logits off by 0.5 at batch 1, at most 0.001 is accepted"),
        (Fault("rows", amount=0.5), "image_logits off by 0.5 at batch 2, at most 0.001 is accepted"),
        (Fault("offset", (3,), 0.5), "image_logits off by 0.5 at batch 3, at most 0.001 is accepted"),
        (Fault("replay", amount=0.25), "image_logits off by 0.25 at batch 1, at most 0.001 is accepted"),
        (Fault("nan", (2,)), "image_logits nan or infinity at batch 2, at most 0.001 is accepted"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_a_wrong_engine_does_not_hold(bundle: Bundle, fault: Fault, failure: str) -> None:
    certificate = certificate_of(bundle, fault)
    assert not certificate.holds
    assert certificate.failures()[0] == failure


@pytest.mark.parametrize("stale", ["image_logits", "maps"])
def test_what_calls_give_that_leave_maps_on_the_gpu_is_compared_with_torch_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, stale: str
) -> None:
    """They are recorded by themselves, so that what is wrong with them need not be wrong with others."""
    right, answers = TrtSession.brief, list[Brief]()

    def replay_the_first(session: TrtSession, images: Any, wants: Any) -> Brief:
        found = right(session, images, wants)
        answers.append(found)
        first = next(each for each in answers if len(each.peaks) == len(found.peaks))
        if stale == "maps":
            return replace(first, image_logits=found.image_logits)
        return replace(found, image_logits=first.image_logits)

    monkeypatch.setattr(TrtSession, "brief", replay_the_first)
    name = {"maps": "anomaly_map"}.get(stale, stale)
    assert certificate_of(bundle, batch=(1, 1)).failures()[0].startswith(f"{name} off by")


@pytest.mark.parametrize("changes", ["tolerance", "golden", "engine"])
def test_one_that_is_about_something_else_is_none(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, changes: str
) -> None:
    engine = make_standin_engine(bundle)
    with load(bundle, engine) as session:
        prove(session, bundle)
    assert find_certificate(engine, bundle) is not None
    if changes == "tolerance":  # such as another version of the software accepts
        parity = replace(bundle.manifest.parity, tolerance={"image_logits": 1e-4, "anomaly_map": 1e-4})
        bundle = Bundle(bundle.path, replace(bundle.manifest, parity=parity))
        with load(bundle, engine) as session:
            assert prove(session, bundle).tolerance == parity.tolerance
        assert caplog.messages[-1].endswith("accepts other differences than the bundle does")
        return
    if changes == "golden":
        files = bundle.manifest.files | {"golden.npz": bundle.manifest.files["text_embeddings.npy"]}
        bundle = Bundle(bundle.path, replace(bundle.manifest, files=files))
    else:
        engine = make_standin_engine(bundle, warning="another engine under the same name")
    assert read_certificate(engine) is not None
    assert find_certificate(engine, bundle) is None
    assert proof_words(engine, bundle) == "not proven yet"


def test_an_engine_whose_record_names_no_graph_or_another_arithmetics_is_of_no_bundle(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", ladder=("fp16", "fp32", "int8")))
    record = make_standin_engine(bundle, arithmetic="int8").record
    assert is_of(record, bundle)
    for edited in (replace(record, sources={}), replace(record, arithmetic="fp16")):
        assert not is_of(edited, bundle)  # an engine of eight bits would else run without a qualification


def test_what_is_just_past_tolerance_is_past_it(bundle: Bundle) -> None:
    certificate = certificate_of(bundle)
    limit = certificate.tolerance["anomaly_map"]
    for figure, holds in ((limit, True), (limit * 1.001, False)):
        first, *others = certificate.batches
        changed = replace(certificate, batches=(replace(first, anomaly_map=figure), *others))
        assert changed.holds is holds


def test_it_survives_its_file(bundle: Bundle) -> None:
    engine = make_standin_engine(bundle, fault=Fault("nan", (2,)))
    with load(bundle, engine) as session:
        certificate = certify(session, bundle, lambda done, total: None)
    assert read_certificate(engine) is None
    write_certificate(engine, certificate)
    assert read_certificate(engine) == certificate
    assert json.loads(engine.certificate_path.read_text())["batches"][1]["image_logits"] is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda d: d["batches"][0].update(image_logits=0.0),
            "was altered after it was made .its checksum differs",
        ),
        (lambda d: d["subject"].update(driver="999"), "was altered after it was made"),
        (lambda d: d["tolerance"].update(image_logits=9.0), "was altered after it was made"),
        (lambda d: d.pop("seal"), "certificate lacks the key 'seal'"),
    ],
)
def test_one_that_was_edited_is_refused_with_the_remedy(
    bundle: Bundle, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    engine = make_standin_engine(bundle)
    with load(bundle, engine) as session:
        write_certificate(engine, certify(session, bundle, lambda done, total: None))
        document = json.loads(engine.certificate_path.read_text())
        edit(document)
        engine.certificate_path.write_text(json.dumps(document))
        with pytest.raises(ValueError, match=rf"certificate\.json: .*{message}.*; delete it"):
            prove(session, bundle)


def test_it_is_made_at_the_first_load_and_kept(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_standin_engine(bundle)
    with load(bundle, engine) as session:
        certificate = prove(session, bundle)
    assert caplog.messages == [f"proving {engine.path.name} on Stand-in GPU: it has no certificate yet"]
    with load(bundle, engine) as session:
        assert prove(session, bundle) == certificate == read_certificate(engine)
    assert len(caplog.messages) == 1


def test_it_is_made_again_after_a_change_of_driver(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_standin_engine(bundle)
    with load(bundle, engine) as session:
        before = prove(session, bundle)
    with load(bundle, engine, cuda=StandinCuda(driver="580.00.00, CUDA 13.0")) as session:
        after = prove(session, bundle)
        assert after.subject == subject_of(engine, bundle, session.library, session.cuda) != before.subject
    assert caplog.messages[1].endswith("its certificate is about another driver")


def test_it_is_made_again_on_another_gpu_of_the_same_name(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_standin_engine(bundle, library="tensorrt-rtx", gpu=None, multiprocessors=None)
    machines = [
        StandinCuda(multiprocessors=58, total_bytes=8 << 30),
        StandinCuda(multiprocessors=58, total_bytes=(8 << 30) - (200 << 20)),  # a driver that keeps some
        StandinCuda(multiprocessors=46, total_bytes=8 << 30),
        StandinCuda(multiprocessors=46, total_bytes=16 << 30),
    ]
    for cuda in machines:
        with TrtSession(bundle, engine, library=standin_library("tensorrt-rtx"), cuda=cuda) as session:
            prove(session, bundle)
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        "it has no certificate yet",
        "its certificate is about another number of multiprocessors",
        "its certificate is about another size of the GPU's memory",
    ]


def test_an_engine_that_does_not_hold_is_not_served_now_or_later(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_standin_engine(bundle, fault=Fault("rows", amount=0.5))
    for _ in range(2):
        with (
            load(bundle, engine) as session,
            pytest.raises(
                RuntimeError, match=r"does not compute what was trained on Stand-in GPU: .*; run acl build"
            ),
        ):
            prove(session, bundle)
    assert len(caplog.messages) == 1  # the second time the certificate itself said so


def test_where_it_cannot_be_written_the_engine_is_proven_at_each_load(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_standin_engine(bundle)

    def refuse(engine: Engine, certificate: Certificate) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("acl_runtime.backends.tensorrt.certificate.write_certificate", refuse)
    with load(bundle, engine) as session:
        assert prove(session, bundle).holds
    assert caplog.messages[-1].endswith("cannot be written (Permission denied): proven again at each load")

"""The methods of the paper's tables: from learning to a verdict, and each against something that is plainly right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import FIXTURES, MINI, VV_FROM
from test_weights import small_open_clip
from torch import Tensor

from acl_export.config import ExportConfig, Head
from acl_export.export import export_bundle
from acl_export.mixed import in_arithmetic
from acl_export.torch_session import TorchSession
from acl_runtime import Detector
from acl_runtime.bundle.bundle import load_bundle, load_text_embeddings
from acl_runtime.images.decode import load_frame
from acl_runtime.scoring.windows import windows_to_patches
from acl_train.clip import CLIP
from acl_train.config import LearnConfig, VisionConfig
from acl_train.learn import Examples, learn_epoch, learning_rate, new_learner, pack_mask
from acl_train.methods import LEARNED, METHODS, WRITTEN, make_vision_config, with_options
from acl_train.patches import LayerProjections, window_tokens
from acl_train.prompts import Prompts, make_prompts_config, written_prompts
from acl_train.reference import winclip_patches
from acl_train.sentences import VAND_STATES, VAND_TEMPLATES, WINCLIP_STATES, WINCLIP_TEMPLATES
from acl_train.text import embed_texts, prompts_vectors, text_embeddings
from acl_train.train import TrainFiles, train
from acl_train.weights import Network, Weights, build_clip, weights_of_open_clip

SIZE = 70
FRAME = FIXTURES / "mini" / "01" / "test" / "bad" / "000.png"


def vision_of(method: str, weights: Weights) -> VisionConfig:
    depth = weights.architecture.vision_layers
    vision = make_vision_config("golden", depth, method=method, image_size=SIZE)
    return replace(vision, vv_from=VV_FROM) if METHODS[method].second_path else vision


def learned_prompts(method: str, weights: Weights, folder: Path, **options: Any) -> Prompts:
    config = with_options(method, epochs=2, **options)
    files = TrainFiles(folder / "p.safetensors", folder / "cache")
    return train([MINI], files, weights, vision_of(method, weights), config)


@pytest.fixture(
    scope="module", params=[*(name for name in METHODS if not METHODS[name].is_mute), "decoupled"]
)
def prompts_of(
    request: pytest.FixtureRequest, weights: Weights, tmp_path_factory: pytest.TempPathFactory
) -> Prompts:
    """Of every method, learned where it learns."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param in WRITTEN:
        return written_prompts(request.param, weights, vision_of(request.param, weights))
    if request.param == "decoupled":
        return learned_prompts("anomalyclip", weights, folder, learns="vectors")
    return learned_prompts(request.param, weights, folder)


def test_every_method_goes_from_learning_to_the_same_verdict_in_torch_and_in_the_graph(
    prompts_of: Prompts, weights: Weights, tmp_path: Path
) -> None:
    """With both heads where the graph is another than AnomalyCLIP's."""
    frame, config = load_frame(FRAME), prompts_of.config
    category = "hazelnut" if config.needs_category else None
    is_other = config.vision.windows or config.vision.learned_projection or "vectors" in prompts_of.tensors
    verdicts = []
    for head in Head if is_other else [Head.map]:
        bundle = tmp_path / head.value
        settings = ExportConfig(head=head, max_batch=3, category=category)
        manifest = export_bundle(prompts_of, bundle, weights, settings)
        assert manifest.prompts["method"] == config.method
        loaded = load_bundle(bundle)
        vectors = torch.from_numpy(load_text_embeddings(loaded))
        session = TorchSession(_rebuilt(loaded.path, weights), vectors, manifest)
        verdicts += [Detector(loaded)(frame), Detector(loaded, session=session)(frame)]
    scale = 0.07 / manifest.temperature  # a smaller temperature makes the same rounding larger
    for verdict in verdicts[1:]:
        assert verdict.score == pytest.approx(verdicts[0].score, abs=5e-6 * scale)
        np.testing.assert_allclose(verdict.anomaly_map, verdicts[0].anomaly_map, atol=1e-5 * scale)
    assert np.ptp(verdicts[0].anomaly_map) > 0


def _rebuilt(bundle: Path, weights: Weights) -> Network:
    """The network as `--against torch` makes it anew from the bundle and a file of the weights."""
    from acl_export import torch_session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_session, "load_weights", lambda *names, quick_gelu: weights)
        return torch_session.load_clip(load_bundle(bundle))


@pytest.mark.parametrize("method", ["winclip", "vand"])
def test_what_differs_in_the_network_differs_in_fp16_too(method: str, weights: Weights) -> None:
    visual = build_clip(weights, vision_of(method, weights)).visual
    if visual.config.learned_projection:
        start = new_learner(build_clip(weights, visual.config), with_options(method)).tensors
        visual.patch_projection = LayerProjections(**{name: t.detach() for name, t in start.items()})
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        exact, rounded = visual(images), in_arithmetic(visual, "fp16")(images)
    for full, half in zip(exact, rounded, strict=True):
        assert half.dtype is torch.float32
        assert 0 < (full - half).abs().max() < 5e-3


@pytest.mark.parametrize("method", ["clip", "clip-ac", "winclip", "vand"])
def test_hand_written_prompts_are_open_clips_embeddings_of_their_sentences(method: str) -> None:
    """With open_clip's own tokenizer and text tower, on random weights."""
    model = small_open_clip(quick_gelu=True)
    clip = build_clip(weights_of_open_clip(model, "small", "random"), VisionConfig(70, (3,), 2))
    sentences = METHODS[method].sentences
    assert sentences is not None
    expected = []
    for texts in sentences("metal nut"):
        with torch.no_grad():
            embedded = F.normalize(model.encode_text(open_clip.tokenize(texts)), dim=-1)  # type: ignore[operator]
        expected.append(F.normalize(embedded.mean(dim=0), dim=0))
    mine = prompts_vectors(clip, _bare(method), "metal nut")
    torch.testing.assert_close(mine, torch.stack(expected)[None], atol=1e-5, rtol=0)


def _bare(method: str) -> Prompts:
    model = weights_of_open_clip(small_open_clip(quick_gelu=True), "small", "random")
    return written_prompts(method, model, VisionConfig(70, (3,), 2))


def test_the_ensembles_have_the_published_numbers_of_sentences() -> None:
    counts = {
        method: [len(side) for side in sentences("bolt")]
        for method, entry in METHODS.items()
        if (sentences := entry.sentences) is not None
    }
    assert counts == {
        "clip": [1, 1],
        "clip-ac": [80, 80],
        "winclip": [7 * 22, 4 * 22],
        "vand": [7 * 35, 5 * 35],
    }
    for states, templates in ((WINCLIP_STATES, WINCLIP_TEMPLATES), (VAND_STATES, VAND_TEMPLATES)):
        assert len(set(templates)) == len(templates)
        assert all(text.count("{}") == 1 for text in (*templates, *states[0], *states[1]))


def test_a_window_is_embedded_as_if_its_patches_were_the_whole_image(weights: Weights) -> None:
    clip, images = build_clip(weights, vision_of("winclip", weights)), torch.randn(2, 3, SIZE, SIZE)
    visual, grid = clip.visual, clip.visual.grid
    with torch.no_grad():
        whole, windows = visual(images)
        tokens = visual.embed(images)
        expected = []
        for side in (2, 3):
            for row in range(grid - side + 1):
                for column in range(grid - side + 1):
                    patches = [1 + (row + y) * grid + column + x for y in range(side) for x in range(side)]
                    expected.append(_class_embedding(clip, tokens[:, [0, *patches]]))
        torch.testing.assert_close(windows[:, 0], torch.stack(expected, dim=1), atol=2e-6, rtol=0)
        torch.testing.assert_close(whole, _class_embedding(clip, tokens), atol=2e-6, rtol=0)


def _class_embedding(clip: CLIP, tokens: Tensor) -> Tensor:
    """CLIP's image embedding of tokens that were embedded already."""
    for block in clip.visual.transformer:
        tokens = block(tokens)
    return F.normalize(clip.visual.ln_post(tokens[:, 0]) @ clip.visual.proj, dim=-1)


def test_scores_of_windows_are_averaged_harmonically_over_patches_and_scales() -> None:
    """Runtime and reference against loops over every patch and window."""
    grid, temperature, rng = 5, 0.07, np.random.default_rng(0)
    places = [grid - side + 1 for side in (2, 3)]
    embeddings = rng.normal(size=(1 + sum(count**2 for count in places), 6))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    vectors = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    similarity = np.exp(embeddings @ vectors.T / temperature)
    scores = similarity[:, 1] / similarity.sum(axis=1)
    of_side = {2: scores[1:17].reshape(4, 4), 3: scores[17:].reshape(3, 3)}
    expected = np.zeros((grid, grid))
    for y in range(grid):
        for x in range(grid):
            scales = [scores[0]]
            for side, table in of_side.items():
                covering = [
                    table[row, column]
                    for row in range(len(table))
                    for column in range(len(table))
                    if row <= y < row + side and column <= x < column + side
                ]
                scales.append(len(covering) / sum(1 / score for score in covering))
            expected[y, x] = 3 / sum(1 / score for score in scales)
    logits = (embeddings @ (vectors[1] - vectors[0]) / temperature).astype(np.float32)
    mine = windows_to_patches(logits[None, 1:], logits[:1], grid=grid, windows=(2, 3))
    np.testing.assert_allclose(mine[0], expected, rtol=2e-6)
    images, of_windows, texts = map(torch.from_numpy, (embeddings[None, 0], embeddings[None, 1:], vectors))
    rows = [window_tokens(grid, side) for side in (2, 3)]
    reference = winclip_patches(images, of_windows, texts, rows, temperature)
    np.testing.assert_allclose(reference[0], expected, rtol=1e-6)


def test_windows_of_hopeless_scores_stay_finite() -> None:
    logits = np.full((1, 16), -300, np.float32)
    patches = windows_to_patches(logits, np.array([-300], np.float32), grid=5, windows=(2,))
    assert np.isfinite(patches).all()
    assert patches.max() < 1e-30


def test_vands_projections_learn_with_a_falling_loss(weights: Weights, tmp_path: Path) -> None:
    """Its patches are tokens of the ordinary path, projected layer by layer."""
    vision = vision_of("vand", weights)
    assert vision.layers == (3, 6, 9, 12)
    clip = build_clip(weights, vision)
    tokens = torch.randn(6, 4, clip.visual.grid**2, 128)
    masks = np.stack([pack_mask(np.random.default_rng(row).random((SIZE, SIZE)) > 0.7) for row in range(6)])
    labels, names = torch.tensor([0, 1] * 3), ["nut"] * 3 + ["bolt"] * 3
    examples = Examples(lambda rows: (torch.zeros(len(rows), 64), tokens[rows]), labels, masks, names)
    config = with_options("vand", epochs=8, batch_size=3)
    learner = new_learner(clip, config)
    start = {name: tensor.detach().clone() for name, tensor in learner.tensors.items()}
    losses = [
        sum(step["loss"] for step in learn_epoch(clip, learner, examples, config))
        for _ in range(config.epochs)
    ]
    assert losses[-1] < 0.9 * losses[0]
    assert all(not torch.equal(start[name], learner.tensors[name]) for name in start)
    assert start["weight"].shape == (4, 128, clip.architecture.embed_dim)


def test_prompts_that_name_products_are_those_of_each_image(weights: Weights) -> None:
    clip = build_clip(weights, vision_of("coop", weights))
    learner = new_learner(clip, with_options("coop"))
    together = learner.head.vectors(learner.tensors, ["nut", "metal bolt"])
    assert together.shape == (2, 1, 2, clip.architecture.embed_dim)
    for row, name in enumerate(("nut", "metal bolt")):
        texts = [f"normal {name}.", f"anomalous {name}."]
        alone = text_embeddings(clip, learner.tensors["ctx"], learner.tensors["deep_ctx"], texts)
        torch.testing.assert_close(together[row, 0], alone, atol=1e-6, rtol=0)
    assert learner.tensors["ctx"].shape == (1, 16, 128)
    assert learner.tensors["deep_ctx"].shape == (0, 4, 128)


def test_an_empty_context_is_the_sentence_itself(weights: Weights) -> None:
    clip = build_clip(weights, vision_of("clip", weights))
    texts, width = ["normal nut.", "anomalous nut."], 128
    bare = text_embeddings(clip, torch.zeros(2, 0, width), torch.zeros(0, 4, width), texts)
    torch.testing.assert_close(bare, embed_texts(clip, texts), atol=1e-6, rtol=0)


def test_coops_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = with_options("coop")
    rates = [learning_rate(config, epoch) for epoch in range(config.epochs)]
    assert rates[0] == 1e-5
    assert rates[25] == pytest.approx(1e-3)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[-1] < 1e-5
    assert {learning_rate(LearnConfig(), epoch) for epoch in range(15)} == {1e-3}


@pytest.mark.parametrize("method", LEARNED)
def test_a_resumed_run_of_any_method_ends_as_an_uninterrupted_one(
    method: str, weights: Weights, tmp_path: Path
) -> None:
    vision, config = vision_of(method, weights), with_options(method, epochs=3)
    straight, halves = (TrainFiles(tmp_path / f"{name}.safetensors", tmp_path / "cache") for name in "ab")
    train([MINI], straight, weights, vision, config)
    halves.checkpoints.mkdir()
    for epoch in (1, 2):  # as if it had been stopped in the third epoch
        halves.checkpoint(epoch).write_bytes(straight.checkpoint(epoch).read_bytes())
    train([MINI], halves, weights, vision, config, resume=True)
    assert halves.output.read_bytes() == straight.output.read_bytes()


def test_the_results_of_several_attentions_are_averaged(weights: Weights) -> None:
    images, shift = torch.randn(1, 3, SIZE, SIZE), {}
    with torch.no_grad():
        for attention in ("vv", "qq", "kk", "vv+qq+kk"):
            visual = build_clip(weights, VisionConfig(SIZE, (12,), 12, attention)).visual
            *_, (before, _), (_, second) = visual.paths(visual.embed(images))
            shift[attention] = second - before
    mean = (shift["vv"] + shift["qq"] + shift["kk"]) / 3
    torch.testing.assert_close(shift["vv+qq+kk"], mean, atol=1e-5, rtol=0)


def test_a_class_name_takes_the_place_of_object(prompts: Prompts, weights: Weights) -> None:
    clip = build_clip(weights, VisionConfig(SIZE, (12,), VV_FROM))
    named, plain = prompts_vectors(clip, prompts, "nut"), prompts_vectors(clip, prompts)
    assert not torch.allclose(named, plain)
    texts = ["nut.", "damaged nut."]
    with torch.no_grad():
        expected = text_embeddings(clip, prompts.tensors["ctx"], prompts.tensors["deep_ctx"], texts)
    torch.testing.assert_close(named[0], expected, atol=0, rtol=0)


def test_what_does_not_go_together_is_refused(weights: Weights, tmp_path: Path) -> None:
    written = written_prompts("clip", weights, vision_of("clip", weights))
    with pytest.raises(
        ValueError, match="prompts of clip name the product; pass its name, such as --category"
    ):
        export_bundle(written, tmp_path / "bundle", weights, ExportConfig())
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(ValueError, match="vand learns no prompts, so --word cannot be chosen"):
        with_options("vand", word="broken")
    with pytest.raises(ValueError, match="decoupled vectors have no text, so --ctx-tokens cannot be chosen"):
        with_options("anomalyclip", learns="vectors", ctx_tokens=4)
    with pytest.raises(ValueError, match="decoupled vectors cannot name the product; coop does"):
        with_options("coop", learns="vectors")
    with pytest.raises(
        ValueError, match=r"attention must be one of vv, qq, kk, qk, or several .* got vv\+vv"
    ):
        make_vision_config("golden", 12, attention="vv+vv")


def test_what_was_learned_for_each_layer_is_refused_for_others(weights: Weights, tmp_path: Path) -> None:
    for learns in ("projection", "vectors"):
        config = (
            with_options("vand") if learns == "projection" else with_options("anomalyclip", learns=learns)
        )
        vision = vision_of("vand" if learns == "projection" else "anomalyclip", weights)
        clip = build_clip(weights, vision)
        tensors = {name: t.detach() for name, t in new_learner(clip, config).tensors.items()}
        other = replace(vision, layers=(6, 12) if len(vision.layers) == 1 else (12,))
        described = make_prompts_config(weights, other, "paper", {}, method=config.method)
        category = "nut" if learns == "projection" else None
        with pytest.raises(
            ValueError, match=r"layers must be the \d that something was learned for each, got \["
        ):
            export_bundle(
                Prompts(tensors, described), tmp_path / "b", weights, ExportConfig(category=category)
            )
        assert not (tmp_path / "b").exists()


def test_a_read_out_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="attention qq needs a second path, and there is none"):
        make_vision_config("golden", 12, method="coop", attention="qq")
    with pytest.raises(ValueError, match="attention qq needs a second path, and there is none"):
        make_vision_config("golden", 12, vv_from=0, attention="qq")
    assert make_vision_config("golden", 12, method="coop", vv_from=3, attention="qq").attention == "qq"
    for given in ({"layers": (6,)}, {"vv_from": 3}):
        with pytest.raises(ValueError, match="winclip looks at windows, so neither layers nor a second path"):
            make_vision_config("golden", 12, method="winclip", **given)


def test_a_word_leaves_the_methods_normal_prompt() -> None:
    assert with_options("coop", word="broken").words == ("normal {}.", "broken {}.")
    assert with_options("anomalyclip", word="broken").words == ("{}.", "broken {}.")


def test_a_method_of_masks_says_that_it_needs_them(weights: Weights, tmp_path: Path) -> None:
    for folder in ("good", "bad"):
        (tmp_path / "parts" / folder).mkdir(parents=True)
        for picture in sorted((MINI / "01" / "test" / folder).glob("*.png")):
            (tmp_path / "parts" / folder / picture.name).write_bytes(picture.read_bytes())
    files = TrainFiles(tmp_path / "p.safetensors", tmp_path / "cache")
    vision, config = vision_of("vand", weights), with_options("vand", epochs=1)
    with pytest.raises(
        ValueError, match="has no masks, and nothing else was to be learned from; add image to --losses"
    ):
        train([tmp_path / "parts"], files, weights, vision, config)

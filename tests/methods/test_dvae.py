"""The discrete VAE: its loss step by step, its noise, and the tokenizer that it leaves."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssl_zoo
from ssl_zoo.backbones.base import parameter_count
from ssl_zoo.backbones.conv_tokenizer import ConvTokenizer
from ssl_zoo.backbones.tokenizer import Tokenizer
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.methods.dvae.decoder import Decoder
from ssl_zoo.methods.dvae.method import DVAE
from ssl_zoo.runs.config import run_config
from ssl_zoo.training.train import train
from tests.small import batch, fast_config, progress, run_info, small_method, tiny_backbone


def build(*overrides: str) -> DVAE:
    torch.manual_seed(0)
    method = small_method("dvae", *overrides)
    assert isinstance(method, DVAE)
    return method.double()


def images(n: int = 3) -> Batch:
    torch.manual_seed(1)
    found = batch(n)
    return replace(found, views=[group.double() for group in found.views])


def noise(method: DVAE, found: Batch, step: int = 0) -> Tensor:
    scores = method.backbone.scores(method.backbone.maps(found.views[0][0]))
    drawn: Tensor = method._uniform(found.index, progress(step), scores)
    return drawn


def test_the_loss_is_the_error_of_pixels_and_the_weighted_divergence() -> None:
    """Patch by patch: softmax((scores + Gumbel noise) / temperature), its embedding, the decoder."""
    method, found = build("method.kl_weight=0.7", "method.temperature=0.5"), images()
    scores = method.backbone.scores(method.backbone.maps(found.views[0][0]))
    u, n_codes = noise(method, found), method.backbone.n_codes
    embedded = torch.zeros(3, method.backbone.codebook.shape[1], 8, 8, dtype=torch.float64)
    divergences = []
    for image in range(3):
        for row in range(8):
            for column in range(8):
                logits, one = scores[image, :, row, column], u[image, :, row, column]
                code = ((logits - (-one.log()).log()) / 0.5).softmax(dim=0)
                embedded[image, :, row, column] = code @ method.backbone.codebook
                q = logits.softmax(dim=0)
                divergences.append((q * (q.log() + math.log(n_codes))).sum())
    error = (method.decoder(embedded) - found.views[0][0]).square().mean()
    expected = error + 0.7 * torch.stack(divergences).mean()
    torch.testing.assert_close(method(found, progress()).loss, expected)


def test_noise_is_of_an_image_and_not_of_its_place_in_the_batch() -> None:
    method, found = build(), images(4)
    rows = torch.tensor([2, 0, 3, 1])
    moved = replace(found, index=found.index[rows])
    assert torch.equal(noise(method, moved), noise(method, found)[rows])


def test_noise_differs_between_steps_images_codes_and_places() -> None:
    method, found = build(), images()
    first = noise(method, found)
    assert len(set(first.flatten().tolist())) == first.numel()
    assert not torch.isin(noise(method, found, step=1), first).any()
    assert ((first >= 0) & (first < 1)).all()


def test_two_seeds_have_different_noise() -> None:
    keys = set()
    for seed in range(2):
        torch.manual_seed(seed)
        method = small_method("dvae")
        assert isinstance(method, DVAE)
        keys.add(int(method.noise_key))
    assert len(keys) == 2


def test_weight_and_temperature_follow_their_ramps() -> None:
    method = build(
        "method.temperature={start: 1.0, end: 0.5, over: 10 steps}",
        "method.kl_weight={start: 0.0, end: 1.0, shape: linear, over: 10 steps}",
    )
    output = method(images(), progress(5))
    assert output.metrics()["temperature"] == pytest.approx(0.75)
    assert method.durations().keys() == {"temperature.over", "kl_weight.over"}


def test_metrics_say_how_codes_are_used() -> None:
    method, found = build(), images()
    metrics = method(found, progress()).metrics()
    used = len(set(method.backbone.codes(found.views[0][0]).flatten().tolist()))
    assert metrics["code_usage"] == pytest.approx(used / method.backbone.n_codes)
    assert 1 <= metrics["code_perplexity"] <= used


def test_the_default_decoder_has_the_parameters_of_dall_e() -> None:
    """43.8 million with the embeddings of the codes, which are its first layer (decoder.pkl)."""
    with torch.device("meta"):
        decoder = Decoder(ConvTokenizer.Config(), outputs=6)
    assert round((parameter_count(decoder) + 8192 * 128) / 1e5) == 438


def test_a_run_leaves_a_tokenizer(tmp_path: Path) -> None:
    config = fast_config("dvae", "epochs=1", "global_batch_size=256")
    network = ssl_zoo.load(train(config, tmp_path / "run", bar=False))
    assert isinstance(network, Tokenizer)
    codes = network.codes(torch.randn(2, 3, 32, 32))
    assert codes.shape == (2, 8, 8)
    assert set(codes.flatten().tolist()) <= set(range(network.n_codes))
    assert not any(name.startswith("decoder") for name in network.state_dict())


def test_the_likelihood_is_that_of_pixels_before_normalisation() -> None:
    """Equation 2 of appendix A.3 for pixels in [0, 1]; the decoder predicts a location and a scale."""
    method, found = build("method.error=logit_laplace", "method.kl_weight=0"), images()
    data = fast_config("dvae").data.model_dump()
    mean, std = (torch.tensor(data[key]).double().view(3, 1, 1) for key in ("mean", "std"))
    shown = torch.rand(found.views[0].shape).double()
    found = replace(found, views=[(shown - mean) / std])
    restored: list[Tensor] = []
    method.decoder.register_forward_hook(lambda _, __, result: restored.append(result))
    loss = method(found, progress()).loss
    location, log_scale = restored[0].chunk(2, dim=1)
    x, b = 0.8 * shown[0] + 0.1, log_scale.exp()
    density = (-((x / (1 - x)).log() - location).abs() / b).exp() / (2 * b * x * (1 - x))
    torch.testing.assert_close(loss, -density.log().mean(), rtol=1e-6, atol=1e-6)


def test_a_likelihood_needs_the_normalisation() -> None:
    with pytest.raises(UserError, match="needs the mean and std by which images are normalised"):
        METHODS.build(
            {"name": "dvae", "error": "logit_laplace"},
            backbone=build().backbone,
            run=run_info(),
        )


def test_a_constant_image_restores_nothing_of_the_variance() -> None:
    method, found = build(), images()
    view = found.views[0][0]
    error, explained = method._error(torch.full_like(view, float(view.mean())), view)
    assert float(explained) == pytest.approx(0, abs=1e-3)
    assert float(error) == pytest.approx(float(view.var(correction=0)))


def test_other_backbones_are_refused() -> None:
    with pytest.raises(
        UserError, match="method 'dvae' learns the codes of a tokenizer; set backbone=conv"
    ):
        run_config("dvae", overrides=["backbone=resnet18"])
    with pytest.raises(UserError, match="set backbone=conv_tokenizer"):
        METHODS.build("dvae", backbone=tiny_backbone(), run=run_info())

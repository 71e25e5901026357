"""The deployment form with channels first is the same function, with the same layers."""

from __future__ import annotations

import pytest
import torch

from conftest import random_model
from edge_deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from edge_deit.exporters.channels_first import channels_first
from edge_deit.model.deploy import deploy
from edge_deit.model.file_form import FileForm, in_file_form, read_grey_levels
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.narrow import scale_tokens, split_coarse, token_scalable
from exporter_models import CONFIGS, images


def conditioned(kind: str) -> DeployDeiT:
    """A form with all that conditioning may add to one."""
    form = deploy(random_model(CONFIGS[kind]))
    read_grey_levels(form, IMAGENET_MEAN, IMAGENET_STD)
    split_coarse(form)
    for name in token_scalable(form)[::2]:
        scale_tokens(form, name)
    return form


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_are_those_of_the_form(kind: str, prepared: bool) -> None:
    form = conditioned(kind) if prepared else deploy(random_model(CONFIGS[kind]))
    before = {name: value.clone() for name, value in form.state_dict().items()}
    made = channels_first(form)
    pixels = images(1, seed=3)
    with torch.inference_mode():
        expected, found = form(pixels), made(pixels)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert quantizable_layers(made) == quantizable_layers(form)
    assert all(torch.equal(value, before[name]) for name, value in form.state_dict().items())


def test_images_and_probabilities() -> None:
    form = deploy(random_model(CONFIGS["plain"]))
    wanted = FileForm("image", "probabilities")
    form = in_file_form(form, wanted, IMAGENET_MEAN, IMAGENET_STD, planes=False)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(channels_first(form)(image), form(image), rtol=1e-4, atol=1e-6)


def test_no_linear_is_left_but_the_head() -> None:
    made = channels_first(deploy(random_model(CONFIGS["plain"])))
    linear = [name for name, one in made.named_modules() if isinstance(one, torch.nn.Linear)]
    assert linear == ["head"]

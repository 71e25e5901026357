"""The patch embedding as a product of matrices."""

import copy

import pytest
import torch
from torch import Tensor

from edge_deit.exporters.patch_rows import row_weight, with_patch_rows
from edge_deit.model.deploy import deploy
from exporter_models import fresh_model, images


@pytest.mark.parametrize("white", [None, 1.0, 255.0])
def test_it_is_the_convolution(white: float | None) -> None:
    form = deploy(fresh_model("plain")).eval()
    made = with_patch_rows(form, white=white)
    pixels = images(2, seed=1)
    with torch.inference_mode():
        expected, found = form.patch_embed(pixels), made.patch_embed(pixels)
    torch.testing.assert_close(found, expected)
    rows = made.get_submodule("patch_embed.rows").get_parameter("weight")
    assert torch.equal(rows, row_weight(form.patch_embed, filled=white is not None))


def test_each_row_reaches_white() -> None:
    """A range found for each row then has whole grey levels as its steps, however dark a patch is."""
    form = deploy(fresh_model("plain")).eval()
    made = copy.deepcopy(with_patch_rows(form, white=1.0))
    seen: list[Tensor] = []
    linear = made.get_submodule("patch_embed.rows")
    linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        made.patch_embed(torch.zeros(1, 3, 64, 64))
    assert seen[0].amax(-1).eq(1).all()
    assert seen[0].amin(-1).eq(0).all()

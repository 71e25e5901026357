"""Augmented training photos, and the order that they come in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec, load_image, normalise
from edge_deit.training.group import ALONE, Group
from edge_deit.training.rand_augment import rand_augment
from edge_deit.training.recipe import Recipe

__all__ = ["BrokenPhoto", "Key", "Order", "TrainingPhotos", "collate"]


@dataclass(frozen=True)
class BrokenPhoto:
    """In place of a photo that a worker could not read: an exception would lose its words on the way."""

    message: str


Item = tuple[Tensor, int] | BrokenPhoto
Key = tuple[int, int, int]
"""Epoch, index of the photo, and how often it has come in the epoch before."""

_TRIES: Final = 10


class TrainingPhotos(Dataset[Item]):
    """Augmented photos; item (epoch, index, draw) is the same in every run with the same seed.

    `draw` counts how often a photo has come in the epoch before: each time it is augmented otherwise.
    """

    def __init__(self, photos: list[Photo], spec: PreprocessSpec, recipe: Recipe) -> None:
        self.photos, self.spec, self.recipe = photos, spec, recipe

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: Key) -> Item:
        epoch, index, draw = key
        photo = self.photos[index]
        assert photo.label is not None
        generator = np.random.default_rng(
            (self.recipe.seed, epoch, index, draw) if draw else (self.recipe.seed, epoch, index)
        )
        try:
            image = load_image(photo.path)
        except EdgeDeitError as error:
            return BrokenPhoto(str(error))
        rgb = _random_crop(image, self.spec.crop_size, self.recipe, generator)
        if self.recipe.rand_augment:
            red, green, blue = (round(255 * value) for value in self.spec.mean)
            rgb = rand_augment(rgb, self.recipe.rand_augment, (red, green, blue), generator)
        pixels = normalise(rgb, self.spec)
        if self.recipe.random_erasing and generator.random() < self.recipe.random_erasing:
            _erase(pixels, generator)
        return torch.from_numpy(pixels), photo.label


def collate(items: list[Item]) -> tuple[Tensor, Tensor] | BrokenPhoto:
    """A batch: pixels (B, 3, H, W) and labels (B), or the first photo that is broken."""
    whole: list[tuple[Tensor, int]] = []
    for item in items:
        if isinstance(item, BrokenPhoto):
            return item
        whole.append(item)
    pixels, labels = zip(*whole, strict=True)
    return torch.stack(pixels), torch.tensor(labels)


def _random_crop(
    image: Image.Image, size: int, recipe: Recipe, generator: np.random.Generator
) -> np.ndarray:
    """Random resized crop (aspect 3/4 to 4/3) and horizontal flip -> (size, size, 3) uint8."""
    width, height = image.size
    area = width * height * generator.uniform(recipe.min_crop_area, 1)
    aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    crop_width = min(width, math.sqrt(area * aspect))
    crop_height = min(height, math.sqrt(area / aspect))
    left = generator.uniform(0, width - crop_width)
    top = generator.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    rgb = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return rgb[:, ::-1] if recipe.flip and generator.random() < 0.5 else rgb


def _erase(pixels: np.ndarray, generator: np.random.Generator) -> None:
    """Noise in place of a rectangle of normalised pixels (3, H, W), in place.

    Source: arXiv 1708.04896, algorithm 1: 2 to 33 % of the area, an aspect of 0.3 to 3.3.
    """
    height, width = pixels.shape[1:]
    for _ in range(_TRIES):
        area = height * width * generator.uniform(0.02, 1 / 3)
        aspect = math.exp(generator.uniform(math.log(0.3), -math.log(0.3)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = (
                generator.integers(height - rows + 1),
                generator.integers(width - columns + 1),
            )
            noise = generator.standard_normal((len(pixels), rows, columns))
            pixels[:, top : top + rows, left : left + columns] = noise
            return


class Order(Sampler[list[Key]]):
    """Keys of this process's part of each step from `first_step` on; each epoch has its own order."""

    def __init__(
        self,
        photos: Sequence[Photo],
        recipe: Recipe,
        first_step: int,
        steps: int,
        group: Group = ALONE,
    ) -> None:
        self._photos, self._recipe, self._group = photos, recipe, group
        self._first_step, self._steps = first_step, steps

    def __iter__(self) -> Iterator[list[Key]]:
        size, per_epoch = self._recipe.batch_size, self._recipe.steps_per_epoch(len(self._photos))
        order: list[Key] | None = None
        for step in range(self._first_step, self._steps):
            epoch, position = divmod(step, per_epoch)
            if order is None or position == 0:
                order = self.of_epoch(epoch)
            yield list(self._group.part(order[position * size : (position + 1) * size]))

    def of_epoch(self, epoch: int) -> list[Key]:
        """The keys of one epoch: each photo once; or some more often, as `repeats` or `balanced` say.

        Source: repeated augmentation, arXiv 1901.09335.
        """
        count = len(self._photos)
        generator = torch.Generator().manual_seed(self._recipe.seed + epoch)
        if not self._recipe.balanced:
            order = torch.randperm(count, generator=generator).tolist()
            repeats = self._recipe.repeats
            return [(epoch, order[at // repeats], at % repeats) for at in range(count)]
        drawn = torch.multinomial(self._weights(), count, replacement=True, generator=generator)
        seen: Counter[int] = Counter()
        keys = []
        for index in drawn.tolist():
            keys.append((epoch, index, seen[index]))
            seen[index] += 1
        return keys

    def _weights(self) -> Tensor:
        """One over the photos of its class, for each photo: as torch's WeightedRandomSampler is used."""
        counts = Counter(photo.label for photo in self._photos)
        return torch.tensor([1 / counts[one.label] for one in self._photos], dtype=torch.float64)

"""The manifest beside every artefact: what it is, what it takes, what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NotRequired

from annotated_types import MinLen
from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.fields import STRICT, About, Count, FileName, Positive, Sha256, Share, Text
from edge_deit.common.files import hash_path
from edge_deit.common.records import JsonFile
from edge_deit.data.preprocess import PreprocessSpec

__all__ = [
    "MANIFEST_FILE",
    "MOST_PHOTOS",
    "SCHEMA",
    "Approximation",
    "Calibration",
    "Manifest",
    "Port",
    "Ranges",
    "SchemeEntry",
    "Weights",
    "approximation_words",
    "manifest_path",
    "read_manifest",
    "write_manifest",
]

SCHEMA: Final = 1
"""Version of the manifest's layout; a file with another one is refused.

An entry that came later has a default, which stands in for it in older files: that is no new version.
"""

MOST_PHOTOS: Final = 64
"""How many photos a file may take at once; more might not fit the limits of the process that runs it."""

_Scalar = bool | int | float | str | None


class Weights(TypedDict):
    """The float model."""

    source: Annotated[
        Text,
        About(
            "What it was made from: bundled, hub:ID, or a path that names no folder of the machine."
        ),
    ]
    sha256: Annotated[Sha256, About("Of its file.")]
    options: NotRequired[
        Annotated[dict[str, bool | int | str], About("Options that loading it took, by name.")]
    ]


class Port(TypedDict):
    """The artefact's input or its output."""

    name: Annotated[Text, About("Its name in the file.")]
    shape: Annotated[list[Positive], MinLen(1), About("Its sizes, the batch first.")]
    dtype: Annotated[Text, About("Type of its elements.")]
    layout: NotRequired[Annotated[Text, About("Order of an image's axes, such as NCHW.")]]
    free_batch: NotRequired[
        Annotated[bool, About("Whether the first size may be any other: several photos at once.")]
    ]


class Ranges(TypedDict):
    """Ranges of a quantized layer, as found on the calibration photos, as far as the file has them."""

    input: Annotated[Any, About("Of what goes in.")]
    output: NotRequired[Annotated[Any, About("Of what comes out, where the file rounds that too.")]]
    methods: Annotated[Any, About("How they were chosen, in this order.")]


class SchemeEntry(TypedDict):
    """Which layers are integer, and how they came to be so."""

    precision: Annotated[Text, About("Precision of weights and activations.")]
    keep_float: NotRequired[Annotated[list[str], About("Patterns of layers that stay float.")]]
    layers: NotRequired[Annotated[list[str], About("Integer layers.")]]
    dynamic: NotRequired[
        Annotated[list[str], About("Those of them whose ranges are found at run time.")]
    ]
    float_inputs: NotRequired[
        Annotated[list[str], About("Those of them whose weights alone are integer.")]
    ]
    token_scaled: NotRequired[Annotated[Any, About("Layers with a scale for each token.")]]
    half_remainder: NotRequired[
        Annotated[bool, About("Whether the float part is in half precision where the core has it.")]
    ]
    seed: NotRequired[Annotated[Count, About("Of what was drawn to make integer layers.")]]
    trained: NotRequired[Annotated[bool, About("Whether its integers were trained.")]]
    single: NotRequired[
        Annotated[
            dict[str, Text],
            About("Layers that stay float32 -> why half precision is not for them."),
        ]
    ]
    bits: NotRequired[
        Annotated[dict[str, Positive], About("Layer -> bits in which each of its weights is held.")]
    ]
    groups: NotRequired[
        Annotated[dict[str, Positive], About("int4: layer -> input channels that share a scale.")]
    ]
    form: NotRequired[
        Annotated[Text, About("How its operators are laid out, where the target has several ways.")]
    ]
    equalised: NotRequired[Annotated[Any, About("Exponents that moved range to weights.")]]
    ranges: NotRequired[Annotated[dict[str, Ranges], About("Layer -> its ranges.")]]


class Calibration(TypedDict):
    """The photos that ranges and rounding were chosen on."""

    images: Annotated[Positive, About("How many.")]
    sha256: Annotated[Sha256, About("Of their pixels.")]
    source: Annotated[str, About("The folder as it was named, or bundled.")]
    photo_sha256: NotRequired[
        Annotated[
            list[Sha256], About("Of each photo's file, so that a validation knows them again.")
        ]
    ]
    pinned: NotRequired[
        Annotated[bool, About("Whether half of the photos give nearly the same ranges as all.")]
    ]
    notes: NotRequired[
        Annotated[list[Text], About("What is to be known about them, one line each.")]
    ]


class Approximation(TypedDict):
    """A function that is not the float model's own: some of its tokens become part of others."""

    method: Annotated[Text, About("How: token-merging.")]
    merged: Annotated[list[Count], About("Tokens that are merged in each block.")]
    images: Annotated[Positive, About("Photos on which it was compared with the float model.")]
    agreement: Annotated[Share, About("Share of them with the float model's first answer.")]
    snr_db: Annotated[
        float | None, About("Signal-to-noise ratio to the float model's logits; null: the same.")
    ]


@dataclass(frozen=True)
class Manifest:
    """All that a runner, a phone app or a validator needs to know about one artefact."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    schema: Annotated[int, About("Version of this layout; readers refuse every other one.")]
    artefact: Annotated[FileName, About("Name of the file that it describes.")]
    sha256: Annotated[Sha256, About("Of the file; of a folder, over its names and contents.")]
    size_bytes: Annotated[Count, About("Size on disk.")]
    target: Annotated[Text, About("The format's name.")]
    backend: Annotated[Text, About("What it was made for within the format.")]
    precision: Annotated[Text, About("Precision of weights and activations.")]
    model: Annotated[Text, About("Name of the variant.")]
    task: Annotated[
        Text,
        About("What it is for: classification, features, or masked-image (a photo from a part)."),
    ]
    config: Annotated[
        dict[str, _Scalar], About("The model's sizes: image_size, patch_size, depth and so on.")
    ]
    weights: Annotated[Weights, About("The float model that it was made from.")]
    input: Annotated[Port, About("What it takes.")]
    output: Annotated[Port, About("What it returns.")]
    preprocessing: Annotated[
        dict[str, _Scalar | list[float]], About("How a photo becomes its input.")
    ]
    labels: Annotated[list[str], About("Name of each class, in the order of the logits.")]
    scheme: Annotated[SchemeEntry, About("Which layers are integer, and how they came to be so.")]
    calibration: Annotated[
        Calibration | None, About("The calibration photos; null for precisions without any.")
    ]
    parity: Annotated[
        dict[str, _Scalar],
        About("What the export measured: runner, and distance to the float model."),
    ]
    tools: Annotated[dict[str, str], About("Package -> version, of what made the file.")]
    assumptions: Annotated[
        list[Text], About("What was assumed because nothing said it, one line each.")
    ] = field(default_factory=list)
    requires: Annotated[
        dict[str, Text],
        About("What runs it: each runtime or system that can, and the oldest version that does."),
    ] = field(default_factory=dict)
    mask: Annotated[
        Port | None,
        About(
            "Its second input, for masked-image: 1 for each hidden patch, row by row, 0 for others."
        ),
    ] = None
    approximation: Annotated[
        Approximation | None,
        About(
            "How its function differs from the float model's by intent, null where it does not; `parity` "
            "is then the distance to the float model with the same approximation."
        ),
    ] = None

    @property
    def image_size(self) -> int:
        """Pixels of one side of its input, as its model has it."""
        size = self.config["image_size"]
        assert isinstance(size, int)
        return size

    @property
    def photos_at_once(self) -> int:
        """How many photos it takes at once, no fewer and no more (but for `free_batch`)."""
        return int(self.input["shape"][0])

    @property
    def preprocess_spec(self) -> PreprocessSpec:
        """The preprocessing as the Python code takes it."""
        return PreprocessSpec.from_json(self.preprocessing)


def approximation_words(manifest: Manifest) -> str:
    """How a file differs from its float model by intent, nothing where it does not."""
    if (found := manifest.approximation) is None:
        return ""
    return f"{sum(found['merged'])} tokens become part of others"


def manifest_path(artefact: Path) -> Path:
    """`model.int8.tflite` -> `model.int8.tflite.json`, beside it."""
    return artefact.with_name(artefact.name + ".json")


def _check(manifest: Manifest) -> None:
    """What types alone do not say."""
    size = manifest.config.get("image_size")
    if type(size) is not int or not 1 <= size <= _MOST_PIXELS:
        raise ValueError(
            f"config.image_size is {size!r}; it must be a whole number from 1 to {_MOST_PIXELS}"
        )
    if (photos := manifest.photos_at_once) > MOST_PHOTOS:
        raise ValueError(f"input.shape begins with {photos}; at most {MOST_PHOTOS} photos at once")
    for name in ("mean", "std"):
        if not isinstance(manifest.preprocessing.get(name), list):
            raise ValueError(f"preprocessing.{name} must be a list of 3 numbers")
    if (found := manifest.approximation) is not None:
        _check_merged(found["merged"], manifest.config)
    try:
        _ = manifest.preprocess_spec
    except EdgeDeitError as error:
        raise ValueError(f"preprocessing: {error}") from error


def _check_merged(merged: list[int], config: Mapping[str, _Scalar]) -> None:
    if len(merged) != config.get("depth") or not any(merged):
        raise ValueError(
            f"approximation.merged names {sum(merged)} tokens in {len(merged)} blocks; it must have a "
            "number for each of the model's blocks, not all of them 0"
        )


_MOST_PIXELS: Final = 4096

MANIFEST_FILE: Final = JsonFile(
    Manifest, "manifest", "export the artefact again", schema=SCHEMA, check=_check, indent=2
)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it as JSON, whole or not at all.

    Raises:
        EdgeDeitError: an entry that a manifest may not have.
    """
    MANIFEST_FILE.write(manifest, path)


def read_manifest(artefact: Path) -> Manifest:
    """The manifest of an artefact, checked against it.

    Raises:
        EdgeDeitError: no such artefact or manifest, not JSON, made by another version, an entry that is
            missing, unknown or of another kind, or the artefact is not the one the manifest describes.
    """
    if not artefact.exists():
        raise EdgeDeitError(f"artefact {artefact} does not exist")
    path = manifest_path(artefact)
    manifest = MANIFEST_FILE.read(path)
    if hash_path(artefact) != manifest.sha256:
        raise EdgeDeitError(
            f"{artefact} is not the file that {path.name} describes (sha256 differs): it was changed, "
            "cut short, or the manifest belongs to another export; export it again"
        )
    return manifest

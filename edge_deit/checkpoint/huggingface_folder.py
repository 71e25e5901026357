"""Writes a checkpoint as a folder that Hugging Face's tools load, and reads it back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.tensor_names import to_hugging_face
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT, LayerScale

__all__ = ["processor_json", "rounding_matters", "store_folder"]

_RESAMPLE: Final = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers
_ROUNDING: Final = (
    "assumed: the offset of the crop is rounded down, as Hugging Face's image processors do; these weights "
    "round half to even, which differs by a pixel in some photos"
)


def store_folder(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Write config.json, preprocessor_config.json and model.safetensors; return what they load as.

    LayerScale, which those classes lack, is folded into the weights. The crop's offset is rounded down,
    as all of Hugging Face's image processors do; where that is not what the weights were made for,
    `assumptions` says so.

    Raises:
        EdgeDeitError: a model without classes or with registers, a preprocessing that the fields of an
            image processor do not tell, or a folder that loads as something else.
    """
    config = checkpoint.config
    if config.task != "classification":
        raise EdgeDeitError(
            "--layout huggingface is for classifiers; a model without classes has no form there: leave "
            "--layout out"
        )
    if config.register_tokens:
        raise EdgeDeitError(
            f"--layout huggingface: no classifier of transformers has register tokens, and these "
            f"weights have {config.register_tokens}; leave --layout out"
        )
    plain = _without_layer_scale(checkpoint.model)
    _write(folder, plain, checkpoint)
    found = load_model(str(folder))
    _check(found, plain, checkpoint)
    notes = (_ROUNDING,) if rounding_matters(checkpoint.preprocess) else ()
    return replace(
        found,
        config=replace(found.config, family=config.family),
        name=checkpoint.name,
        assumptions=(*checkpoint.assumptions, *notes),
    )


def _without_layer_scale(model: DeiT) -> DeiT:
    """The same function without LayerScale: g * (W x + b) = (diag(g) W) x + g * b, folded in float64."""
    if not model.config.layer_scale:
        return model
    plain = DeiT(replace(model.config, layer_scale=False))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, LayerScale):
            writer = name.replace("ls1", "attn.proj").replace("ls2", "mlp.fc2")
            gamma = state.pop(f"{name}.gamma").double()
            weight, bias = state[f"{writer}.weight"], state[f"{writer}.bias"]
            state[f"{writer}.weight"] = (gamma[:, None] * weight).float()
            state[f"{writer}.bias"] = (gamma * bias).float()
    plain.load_state_dict(state)
    return plain.eval()


def _write(folder: Path, model: DeiT, checkpoint: Checkpoint) -> None:
    kind = "deit" if model.config.distilled else "vit"
    head = "cls_classifier" if model.config.distillation_head else "classifier"
    state = to_hugging_face(model.state_dict(), kind, head)
    path = folder / "model.safetensors"
    try:
        save_file(
            {name: value.detach().contiguous().clone() for name, value in state.items()},
            path,
            metadata={"format": "pt"},
        )
    except SafetensorError as error:
        raise EdgeDeitError(f"{path} cannot be written: {error}") from error
    _write_json(folder / "config.json", _config_json(model.config, checkpoint))
    _write_json(folder / "preprocessor_config.json", processor_json(checkpoint.preprocess))


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _config_json(config: DeiTConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """transformers' ViTForImageClassification; with a distillation token its DeiT."""
    architecture = "ViTForImageClassification"
    if config.distilled:
        teacher = "WithTeacher" if config.distillation_head else ""
        architecture = f"DeiTForImageClassification{teacher}"
    return {
        "_name_or_path": checkpoint.name.replace("_", "-"),
        "architectures": [architecture],
        "model_type": "deit" if config.distilled else "vit",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.in_channels,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
        "qkv_bias": config.qkv_bias,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(index): name for index, name in enumerate(checkpoint.labels)},
        "label2id": {name: index for index, name in enumerate(checkpoint.labels)},
        "torch_dtype": "float32",
    }


# Preprocessing


def processor_json(spec: PreprocessSpec) -> dict[str, Any]:
    """The fields of an image processor that does what `spec` says, but for how the crop is rounded.

    The class follows from the steps: DeiT's and ViT's squash, CLIP's keep the aspect.
    """
    crop: dict[str, Any] = {"height": spec.crop_size, "width": spec.crop_size}
    cut = spec.resize != "exact" or spec.resize_size != spec.crop_size
    fields: dict[str, Any] = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": spec.resize != "none",
        "size": {"shortest_edge": spec.resize_size},
        "resample": _RESAMPLE[spec.resample],
        "do_center_crop": cut,
        "crop_size": crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
    if spec.resize == "exact":
        fields["image_processor_type"] = f"{'DeiT' if cut else 'ViT'}ImageProcessor"
        fields["size"] = {"height": spec.resize_size, "width": spec.resize_size}
        if not cut:
            del fields["do_center_crop"], fields["crop_size"], fields["do_convert_rgb"]
    return fields


def rounding_matters(spec: PreprocessSpec) -> bool:
    """Whether photos exist for which rounding the crop's offset down is not what `spec` says."""
    if spec.crop_rounding == "floor":
        return False
    return spec.resize != "exact" or (spec.resize_size - spec.crop_size) % 4 == 3


# Reading back


def _check(found: Checkpoint, plain: DeiT, checkpoint: Checkpoint) -> None:
    """Refuse a folder that says something else than the checkpoint did.

    Raises:
        EdgeDeitError: what differs is named.
    """
    wanted = replace(checkpoint.preprocess, crop_rounding="floor")
    if wanted.resize == "none":  # then these two mean nothing
        wanted = replace(wanted, resize_size=wanted.crop_size, resample="bicubic")
    pairs = asdict(wanted).items() ^ asdict(found.preprocess).items()
    if names := sorted({name for name, _ in pairs}):
        raise EdgeDeitError(
            f"--layout huggingface: no image processor of transformers has this preprocessing's "
            f"{', '.join(names)}; give another --preprocessing, or leave --layout out"
        )
    state, ours = found.model.state_dict(), plain.state_dict()
    wrong = [name for name in ours.keys() | state.keys() if not _same(name, ours, state)]
    if wrong or found.labels != checkpoint.labels:
        what = sorted(wrong)[0] if wrong else "the names of the classes"
        raise EdgeDeitError(f"--layout huggingface: {what} did not come back from the folder")


def _same(name: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    return name in one and name in other and torch.equal(one[name].float(), other[name].float())

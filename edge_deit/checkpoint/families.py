"""Which family weights are of, and relatives whose graph is another one: those are refused by name.

A relative that is not taken often differs by one step, and would load if that step's tensors were left out.
So tensors and fields that stand for another graph are known by name, and the message says which it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import Family

__all__ = [
    "check_model_type",
    "check_timm_fields",
    "complete_fields",
    "family_of_architecture",
    "family_of_tensors",
    "is_of_family",
    "refuse_tensors",
]

_MODEL_TYPES: Final[dict[str, tuple[Family, dict[str, Any]]]] = {
    "deit": ("deit", {}),
    "vit": ("vit", {}),
    "vit_msn": ("vit", {"layer_norm_eps": 1e-6}),
    "dinov2": ("dinov2", {"layer_norm_eps": 1e-6, "patch_size": 14}),
    "dinov2_with_registers": ("dinov2", {"layer_norm_eps": 1e-6, "num_register_tokens": 4}),
}  # Hugging Face's model_type -> family, and its class's defaults that differ from ViT's

_OTHER_TYPES: Final = {
    "beit": "relative position bias",
    "clip": "a norm in front of the first block",
    "clip_vision_model": "a norm in front of the first block",
    "convnext": "convolutions",
    "cvt": "a convolutional stem",
    "data2vec-vision": "relative position bias",
    "dinov3_vit": "rotary positions",
    "ijepa": "no class token",
    "levit": "a convolutional stem",
    "pixio": "several class tokens",
    "siglip": "a head that attends to all tokens",
    "siglip_vision_model": "a head that attends to all tokens",
    "swin": "window attention",
    "swinv2": "window attention",
    "vit_hybrid": "a convolutional stem",
    "vit_mae": "random patches only, in pretraining",
    "yolos": "detection tokens",
}

_OTHER_TENSORS: Final = (  # any publisher's names, and what they stand for
    (r"layers\.\d+\.blocks\.\d+\.|\.downsample\.", "window attention (Swin)"),
    (r"relative_position_bias|rel_pos_(bias|table|mlp)", "relative position bias (BEiT)"),
    (r"attn\.[qv]_bias$", "queries and values with a bias, keys without (BEiT)"),
    (
        r"blocks_token_only\.|cls_attn_blocks\.|proj_l\.|temperature$",
        "class attention (CaiT, XCiT)",
    ),
    (r"mlp\.(w12|w3|weights_in|weights_out|gate_proj|up_proj|fc1_[gx])\.", "SwiGLU"),
    (r"(^|\.)([qk]_norm|query_norm|key_norm)\.", "norms on queries and keys (qk_norm)"),
    (r"(^|\.)(norm_pre|ln_pre|pre_layrnorm)\.", "a norm in front of the first block (CLIP)"),
    (r"class_embedding$|(^|\.)resblocks\.", "CLIP's image encoder"),
    (r"\.(attns|ffns)\.\d+\.", "parallel blocks"),
    (r"(attn|mlp)\.norm\.", "norms inside the branches (EVA)"),
    (r"(^|\.)(rope|rope_embed|rotary\w*)\.|freqs|periods$", "rotary positions"),
    (r"(^|\.)fc_norm\.", "a head on the mean of the patches (global_pool avg)"),
    (r"(^|\.)(attn_pool|head\.probe)", "a head that attends to all tokens (attention pooling)"),
    (r"(^|\.)pre_logits\.", "a layer between encoder and head (pre_logits)"),
    (r"patch_embed\.(backbone|conv\w*|stem|proj\.\d)", "a convolutional stem"),
    (r"(^|\.)lambda_1$", "relative position bias or another form of LayerScale (BEiT)"),
)

_ARCHITECTURES: Final[tuple[tuple[str, Family], ...]] = (  # timm's names, without the tag
    (r"deit3_(small|medium|base|large|huge)_patch\d+_\d+(_in21ft1k)?", "deit3"),
    (r"deit_(tiny|small|base)(_distilled)?_patch\d+_\d+", "deit"),
    (r"vit_(small|base|large)_patch14(_reg4)?_dinov2", "dinov2"),
    (r"vit_(small|base)_patch\d+_\d+_dino", "dino"),
    (r"vit_(tiny|little|small|medium|base|large|huge)_patch\d+_\d+(_in21k|_sam|_miil)?", "vit"),
)

_TIMM_ARGUMENTS: Final = {  # arguments of timm's VisionTransformer that tensors or other fields tell
    "img_size", "patch_size", "in_chans", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio",
    "qkv_bias", "init_values", "no_embed_class", "reg_tokens", "dynamic_img_size", "dynamic_img_pad",
    "strict_img_size", "drop_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate", "patch_drop_rate",
    "drop_path_rate", "weight_init", "fix_init",
}  # fmt: skip
_TIMM_VALUES: Final[dict[str, tuple[Any, ...]]] = {  # and those that must say what is computed here
    "global_pool": ("token", ""),
    "class_token": (True,),
    "pre_norm": (False,),
    "final_norm": (True,),
    "fc_norm": (False, None),
    "qk_norm": (False,),
    "pos_embed": ("learn",),
    "act_layer": (None, "gelu"),
    "norm_layer": (None, "layernorm"),
}


def refuse_tensors(path: Path, names: Iterable[str]) -> None:
    """Refuse tensors that stand for another graph.

    Raises:
        EdgeDeitError: one line that names the tensor and what it stands for.
    """
    found = sorted(names)
    for pattern, meaning in _OTHER_TENSORS:
        for name in found:
            if re.search(pattern, name):
                raise EdgeDeitError(
                    f"{path} is no DeiT or a relative that is taken: {name} is {meaning}"
                )


def check_model_type(path: Path, data: Mapping[str, Any]) -> str:
    """The `model_type` of Hugging Face's config.json.

    Raises:
        EdgeDeitError: another kind of model, with what it has that is not taken.
    """
    kind = data.get("model_type")
    if isinstance(kind, str) and kind in _MODEL_TYPES:
        return kind
    why = f" ({_OTHER_TYPES[kind]})" if isinstance(kind, str) and kind in _OTHER_TYPES else ""
    raise EdgeDeitError(
        f"{path}: model_type is {kind!r:.40}{why}; {', '.join(_MODEL_TYPES)} are supported"
    )


def complete_fields(
    path: Path, data: Mapping[str, Any], names: Iterable[str]
) -> tuple[Family, dict[str, Any]]:
    """The family of Hugging Face's config.json and its fields, completed by its class's defaults.

    `names` are those of the tensors. DINOv2's `mlp_ratio` becomes `intermediate_size`.

    Raises:
        EdgeDeitError: another kind of model, with what it has that is not taken.
    """
    kind = check_model_type(path, data)
    family, defaults = _MODEL_TYPES[kind]
    fields = {**defaults, **data}
    fields["num_register_tokens"] = (
        fields["num_register_tokens"] if kind == "dinov2_with_registers" else 0
    )
    names = set(names)
    if family == "dinov2":
        if fields.get("use_swiglu_ffn"):
            raise EdgeDeitError(f"{path}: use_swiglu_ffn is true; SwiGLU is not supported")
        if "classifier.weight" in names:
            raise EdgeDeitError(
                f"{path}: classifier.weight reads the class token and the mean of the patches, as DINOv2's "
                "heads do, which is not supported; a DINOv2 without classifier is"
            )
        fields["intermediate_size"] = _hidden_width(path, fields)
    refuse_tensors(path, names)
    if kind == "vit" and _is_deit(path, data):
        family = "deit"
    return family, fields


def _hidden_width(path: Path, fields: Mapping[str, Any]) -> int:
    width, ratio = fields.get("hidden_size", 768), fields.get("mlp_ratio", 4)
    if type(width) is not int or type(ratio) not in (int, float) or not 0 < ratio <= 100:
        raise EdgeDeitError(
            f"{path} is not readable: hidden_size is {width!r:.40} and mlp_ratio {ratio!r:.40}; numbers "
            "are expected"
        )
    return int(width * ratio)


def _is_deit(path: Path, data: Mapping[str, Any]) -> bool:
    """Whether the repository is named for DeiT: the hub's plain ones are declared as `vit`."""
    names = [str(data.get("_name_or_path", "")), path.parent.name]
    names += [part for part in path.parts[-4:-3] if part.startswith("models--")]  # in a hub cache
    return any(re.search(r"(^|--|/)deit-[\w-]+$", name) for name in names)


def family_of_architecture(path: Path, architecture: str) -> Family:
    """The family of a timm architecture, with or without the tag: `vit_small_patch16_224.dino`.

    Raises:
        EdgeDeitError: an architecture that is not taken.
    """
    family = _family(architecture)
    if family is not None:
        return family
    raise EdgeDeitError(
        f"{path}: architecture is {architecture!r:.60}; taken are deit_*, deit3_*, vit_SIZE_patchP_S (also "
        ".dino) and vit_SIZE_patch14_dinov2 with or without reg4"
    )


def _family(architecture: str) -> Family | None:
    name, _, tag = architecture.partition(".")
    for pattern, family in _ARCHITECTURES:
        if re.fullmatch(pattern, name):
            return "dino" if family == "vit" and tag == "dino" else family
    return None


def is_of_family(architecture: str, family: Family) -> bool:
    """Whether timm's architecture, with or without the tag, is one of the family's."""
    return _family(architecture) == family


def check_timm_fields(path: Path, data: Mapping[str, Any]) -> None:
    """Refuse what timm's config.json says of the graph and tensors do not show.

    Raises:
        EdgeDeitError: a field with another value than is computed here, or one that is not known.
    """
    arguments = data.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise EdgeDeitError(f"{path}: model_args is {arguments!r:.40}, not an object")
    for name, value in {**data, **arguments}.items():
        if name in _TIMM_VALUES and value not in _TIMM_VALUES[name]:
            taken = " or ".join(repr(one) for one in _TIMM_VALUES[name] if one not in ("", None))
            raise EdgeDeitError(f"{path}: {name} is {value!r:.40}; only {taken} is supported")
    if unknown := sorted(set(arguments) - _TIMM_ARGUMENTS - set(_TIMM_VALUES)):
        raise EdgeDeitError(f"{path}: model_args has {', '.join(unknown)}, which is not supported")


def family_of_tensors(state: Mapping[str, Tensor]) -> Family:
    """The family that tensors under our own names prove; ViT and DINO look like DeiT and count as it."""
    if "blocks.0.ls1.gamma" not in state:
        return "deit"
    plain = "reg_token" not in state and not state["pos_embed"][:, 0].any()
    return "deit3" if plain else "dinov2"

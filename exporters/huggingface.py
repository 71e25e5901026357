"""What Hugging Face's tools expect of a folder with ONNX files, and how they load one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_deit.quantization.scheme import Precision

__all__ = ["FILE_NAMES", "FOLDER", "INPUT_NAME", "TAGS", "TARGET_NAME", "usage"]

TARGET_NAME: Final = "onnx"
FOLDER: Final = "onnx"
"""Where transformers.js looks for the files inside a model's folder."""

INPUT_NAME: Final = "pixel_values"
FILE_NAMES: Final[Mapping[Precision, str]] = {
    "fp32": "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_quantized.onnx",
}
"""What optimum and transformers.js call the files, by precision."""

TAGS: Final = ("onnx", "transformers.js")
_DTYPES: Final[Mapping[str, str]] = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}


def usage(precisions: Sequence[str]) -> str:
    """Markdown: how to load a folder that has these precisions, in Python and in JavaScript.

    Sources: optimum-onnx's ORTModelForImageClassification; the pipelines of transformers.js.
    """
    names = [name for precision, name in FILE_NAMES.items() if precision in precisions]
    dtypes = [_DTYPES[precision] for precision in FILE_NAMES if precision in precisions]
    return f"""## Python

```python
from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline

folder = "."  # this folder, or its name on the hub
model = ORTModelForImageClassification.from_pretrained(
    folder, subfolder="{FOLDER}", file_name="{names[0]}"
)
classify = pipeline(
    "image-classification", model=model, image_processor=AutoImageProcessor.from_pretrained(folder)
)
classify("photo.jpg")
```

`pipeline("image-classification", model=folder)` runs `model.safetensors` in PyTorch.

## JavaScript

```js
import {{ env, pipeline }} from "@huggingface/transformers";

env.localModelPath = "/models/"; // the folder that holds this one; leave it out for the hub
const classify = await pipeline("image-classification", "NAME-OF-THIS-FOLDER", {{
  dtype: "{dtypes[0]}",
}});
await classify("photo.jpg", {{ top_k: 5 }});
```

`dtype` may be: {", ".join(f"`{name}`" for name in dtypes)}. Browsers and Node resize photos with
other filters than Pillow, so scores differ from Python's; on a photo of the right size they do not."""

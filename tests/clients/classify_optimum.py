"""Classify photos with optimum: FOLDER FILE PHOTO... -> JSON, photo -> pairs of label and score."""

from __future__ import annotations

import json
import sys

from optimum.onnxruntime import ORTModelForImageClassification
from transformers import AutoImageProcessor, pipeline

folder, name, *photos = sys.argv[1:]
model = ORTModelForImageClassification.from_pretrained(folder, subfolder="onnx", file_name=name)
processor = AutoImageProcessor.from_pretrained(folder)
classify = pipeline("image-classification", model=model, image_processor=processor)
said = {}
for way, batch in (("answers", 1), ("batched", 3)):
    found = classify(photos, top_k=5, batch_size=batch)
    pairs = [[[one["label"], one["score"]] for one in answer] for answer in found]
    said[way] = dict(zip(photos, pairs, strict=True))
print(json.dumps(said))

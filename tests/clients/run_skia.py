"""Skia draws a photo as Android's Bitmap.createScaledBitmap does: PHOTO.npy WIDTH HEIGHT FILTER DRAWN.npy.

PHOTO is (H, W, 3) uint8, DRAWN (HEIGHT, WIDTH, 3); FILTER is kLinear or kNearest. Prints null.
"""

import json
import sys

import numpy as np
import skia

photo, width, height, name, drawn = sys.argv[1:]
rgb = np.load(photo)
opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
colour = skia.kRGBA_8888_ColorType
image = skia.Image.fromarray(np.ascontiguousarray(opaque), colorType=colour)
out = np.zeros((int(height), int(width), 4), np.uint8)
sampling = skia.SamplingOptions(getattr(skia.FilterMode, name), skia.MipmapMode.kNone)
with skia.Surface(out, colorType=colour) as canvas:
    canvas.drawImageRect(image, skia.Rect.MakeWH(int(width), int(height)), sampling)
np.save(drawn, out[..., :3])
print(json.dumps(None))

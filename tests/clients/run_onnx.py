"""FILE PIXELS.npy: logits of an `.onnx` file in a session without options, or why it is refused."""

import json
import sys

import numpy as np
import onnxruntime

path, pixels = sys.argv[1:]
try:
    session = onnxruntime.InferenceSession(path)
except Exception as error:  # noqa: BLE001 # ONNX Runtime has a class for each status code
    print(json.dumps({"refused": str(error)}))
    raise SystemExit from None
(source,) = session.get_inputs()
found = [session.run(None, {source.name: photo[None]})[0][0].tolist() for photo in np.load(pixels)]
print(json.dumps({"logits": found}))

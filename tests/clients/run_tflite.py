"""FILE PIXELS.npy: logits of a `.tflite` file for each photo, or why tflite-runtime refuses it.

`ms` is the median processor time of an inference, on one thread.
"""

import json
import statistics
import sys
import time

import numpy as np
from tflite_runtime.interpreter import Interpreter

path, pixels = sys.argv[1:]
try:
    interpreter = Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
except (ValueError, RuntimeError) as error:
    print(json.dumps({"refused": str(error)}))
    raise SystemExit from None
(source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
found, times = [], []
for photo in np.load(pixels):
    interpreter.set_tensor(source["index"], photo[None])
    started = time.process_time()
    interpreter.invoke()
    times.append(1000 * (time.process_time() - started))
    found.append(interpreter.get_tensor(result["index"])[0].tolist())
print(json.dumps({"logits": found, "ms": statistics.median(times)}))

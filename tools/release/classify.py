"""Photos to classes by `Classifier` alone: python tools/release/classify.py ARTEFACT PHOTO... prints JSON.

It runs where Edge DeiT is installed without PyTorch, on this processor or on an emulated one.
"""

from __future__ import annotations

import json
import sys
import time

from edge_deit import Classifier


def main(artefact: str, *photos: str) -> None:
    """Print labels, logits and the processor time up to the first answer."""
    classify = Classifier(artefact)
    first = classify(photos[0])
    cpu_s = time.process_time()
    answers = [[[one.label, one.logit] for one in answer] for answer in classify(list(photos))]
    assert answers[0] == [[one.label, one.logit] for one in first]
    print(json.dumps({"first_answer_cpu_s": round(cpu_s, 2), "answers": answers}))


if __name__ == "__main__":
    main(*sys.argv[1:])

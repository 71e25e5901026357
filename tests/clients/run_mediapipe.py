"""MediaPipe's image classifier on photos: prints [[[index, name, score], ...], ...] as JSON."""

import json
import sys

import mediapipe
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision

model, *photos = sys.argv[1:]
options = vision.ImageClassifierOptions(
    base_options=tasks.BaseOptions(model_asset_path=model), max_results=5
)
answers = []
with vision.ImageClassifier.create_from_options(options) as classifier:
    for photo in photos:
        found = classifier.classify(mediapipe.Image.create_from_file(photo)).classifications[0]
        answers.append([[c.index, c.category_name, c.score] for c in found.categories])
print(json.dumps(answers))

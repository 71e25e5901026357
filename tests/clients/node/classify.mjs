// Classify photos with transformers.js: MODULES MODELS NAME DTYPE PHOTO... -> JSON, photo -> [label, score] pairs.
import { createRequire } from "node:module";

const [modules, models, name, dtype, ...photos] = process.argv.slice(2);
const { env, pipeline } = createRequire(`${modules}/package.json`)("@huggingface/transformers");
env.allowRemoteModels = false;
env.localModelPath = models;
const classify = await pipeline("image-classification", name, { dtype, device: "cpu" });
const answers = {};
for (const photo of photos) {
  const found = await classify(photo, { top_k: 5 });
  answers[photo] = found.map(({ label, score }) => [label, score]);
}
console.log(JSON.stringify({ answers }));

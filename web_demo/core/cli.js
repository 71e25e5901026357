/**
 * The core from a command line, for tests on a computer: 0 done, 1 a case failed, 2 bad input.
 *
 * preprocess MANIFEST.json RAW.rgb WIDTH HEIGHT ORIENTATION OUT.f32 | rank MANIFEST.json LOGITS.f32 |
 * golden SPEC.json CASES.json | bundle FOLDER
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { littleEndian, sha256 } from "./bytes.js";
import { readBundle } from "./bundle.js";
import { EdgeDeitError } from "./error.js";
import { parseGoldenCases, parseGoldenSpec } from "./golden.js";
import { parseManifest } from "./manifest.js";
import { preprocess } from "./preprocess.js";
import { rank } from "./ranking.js";
import { RgbImage } from "./rgb_image.js";
import { selfTest } from "./self_test.js";

const TOP = 5;
const COMMANDS = { preprocess: preprocessFile, rank: rankFile, golden, bundle };

function text(path) {
  return readFile(path, "utf8");
}

async function preprocessFile(manifest, raw, width, height, orientation, out) {
  const spec = parseManifest(await text(manifest), manifest).preprocessing;
  const numbers = [width, height, orientation].map(Number);
  const photo = RgbImage.upright(...numbers, new Uint8Array(await readFile(raw)));
  await writeFile(out, littleEndian(preprocess(photo, spec)));
  return 0;
}

async function rankFile(manifest, logits) {
  const { labels } = parseManifest(await text(manifest), manifest);
  const bytes = await readFile(logits);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
  console.log(JSON.stringify(rank(values, labels, TOP)));
  return 0;
}

async function golden(spec, cases) {
  let [passed, failed] = [0, 0];
  const parsed = await parseGoldenSpec(await text(spec), spec);
  for await (const { kind, name, failure } of selfTest(parsed, parseGoldenCases(await text(cases), cases))) {
    if (failure === null) {
      passed++;
    } else {
      failed++;
      console.log(`${kind} ${name}: ${failure}`);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Reads a bundle as the page does, and checks the files' sha256. */
async function bundle(folder) {
  const { artefacts } = await readBundle((name) => text(join(folder, name)));
  for (const { file, manifest } of artefacts) {
    if ((await sha256(await readFile(join(folder, file)))) !== manifest.sha256) {
      throw new EdgeDeitError(`${file} is damaged`);
    }
    console.log(`${file}: ${manifest.model}, ${manifest.target}, ${manifest.precision}`);
  }
  return 0;
}

const [name, ...files] = process.argv.slice(2);
try {
  const command = Object.hasOwn(COMMANDS, name ?? "") ? COMMANDS[name] : null;
  if (command?.length !== files.length) throw new EdgeDeitError(`one of ${Object.keys(COMMANDS)}, with its files`);
  process.exitCode = await command(...files);
} catch (error) {
  if (!(error instanceof EdgeDeitError) && error.code === undefined) throw error;
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
}

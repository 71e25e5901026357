import { EdgeDeitError } from "./error.js";
import { parseGoldenCases, parseGoldenSpec } from "./golden.js";
import { checkSchema, Json } from "./json.js";
import { parseManifest } from "./manifest.js";

const SCHEMA = 1;
const INDEX = "bundle.json";
const GOLDEN_SPEC = "golden_spec.json";
const GOLDEN_CASES = "golden_cases.json";

/**
 * What `python -m edge_deit.bundle --web` wrote: `{artefacts, spec, goldenCases}`.
 *
 * `read(name)` resolves to the text of a file of the bundle's folder. An artefact is `{file, manifest}`;
 * `goldenCases()` reads the self-test's cases, which are large. Throws EdgeDeitError where a file is not what
 * it must be or two do not fit.
 */
export async function readBundle(read) {
  const index = Json.parse(await read(INDEX), INDEX);
  checkSchema(index, SCHEMA);
  const entries = index.get("artefacts").list();
  if (entries.length === 0) index.get("artefacts").wrong("a list of at least one artefact");
  const spec = await parseGoldenSpec(await read(GOLDEN_SPEC), GOLDEN_SPEC);
  const artefacts = [];
  for (const entry of entries) artefacts.push(await artefactOf(entry, spec, read));
  return { artefacts, spec, goldenCases: async () => parseGoldenCases(await read(GOLDEN_CASES), GOLDEN_CASES) };
}

async function artefactOf(entry, spec, read) {
  const [file, name] = [entry.get("file").fileName(), entry.get("manifest").fileName()];
  const manifest = parseManifest(await read(name), name);
  const same =
    manifest.artefact === file &&
    manifest.sha256 === entry.get("sha256").value &&
    manifest.sizeBytes === entry.get("size_bytes").value &&
    manifest.target === entry.get("target").value &&
    manifest.precision === entry.get("precision").value;
  if (!same) throw new EdgeDeitError(`${INDEX} and ${name} describe two files; bundle again`);
  if (JSON.stringify(manifest.labels) !== JSON.stringify(spec.labels)) {
    throw new EdgeDeitError(`${file} has other labels than ${GOLDEN_SPEC}; bundle it again`);
  }
  return { file, manifest };
}

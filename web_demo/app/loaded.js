import { checkBytes, openEngine } from "../engines/engines.js";
import { readBytes } from "./files.js";

let current = null; // {file, backend, engine}: one model at a time, as memory is short

/** The artefact on a backend, ready to run; the one before it is closed. */
export async function engineFor(artefact, backend) {
  if (current?.file === artefact.file && current.backend === backend) return current.engine;
  return openFresh(artefact, await bytesOf(artefact), backend);
}

/** The file's bytes, held against its manifest. */
export async function bytesOf(artefact) {
  const bytes = await readBytes(artefact.file);
  await checkBytes(artefact, bytes);
  return bytes;
}

/** The artefact of these bytes, loaded anew; the model before it is closed. */
export async function openFresh(artefact, bytes, backend) {
  await closeEngine();
  const engine = await openEngine(artefact, bytes, backend);
  current = { file: artefact.file, backend, engine };
  return engine;
}

/** Frees the memory of the model that is open. */
export async function closeEngine() {
  const closing = current;
  current = null;
  await closing?.engine.close();
}

import { readBundle } from "../core/bundle.js";
import { EdgeDeitError } from "../core/error.js";

const FOLDER = new URL("../edge_deit/", import.meta.url);
const GONE = 404;

/** The bundle beside the page, or null where none was put there. */
export async function loadBundle() {
  return (await fetched("bundle.json")).status === GONE ? null : readBundle(readText);
}

async function readText(name) {
  return (await found(name)).text();
}

/** The bytes of one of the bundle's files. */
export async function readBytes(name) {
  return new Uint8Array(await (await found(name)).arrayBuffer());
}

async function found(name) {
  const answer = await fetched(name);
  if (!answer.ok) throw new EdgeDeitError(`${name} is missing (${answer.status}); bundle the model again`);
  return answer;
}

async function fetched(name) {
  try {
    return await fetch(new URL(encodeURIComponent(name), FOLDER), { cache: "no-cache" });
  } catch (error) {
    throw new EdgeDeitError(`${name} cannot be loaded (${error.message}); is the server still running?`);
  }
}

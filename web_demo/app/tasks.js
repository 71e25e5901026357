import { EdgeDeitError } from "../core/error.js";
import { byId } from "./dom.js";

let busy = false;
let onChange = () => {};

/** `listener(busy)` is told when work begins and ends. */
export function watchTasks(listener) {
  onChange = listener;
}

/**
 * Does one piece of work at a time, so that two models never run, or are measured, at once; what goes wrong is
 * shown on the page. Work that comes in the meantime is dropped: its buttons are off.
 */
export async function doTask(action) {
  if (busy) return;
  begin(true);
  showProblem(null);
  try {
    await action();
  } catch (error) {
    showProblem(error instanceof EdgeDeitError ? error.message : `Unexpected: ${error}`);
    if (!(error instanceof EdgeDeitError)) console.error(error);
  } finally {
    begin(false);
  }
}

function begin(value) {
  busy = value;
  onChange(value);
}

/** Shows what is wrong above everything else; null takes it away. */
export function showProblem(text) {
  byId("problem").textContent = text ?? "";
  byId("problem").hidden = text === null;
}

/** The page's element `id`. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element with children; texts become text, never markup. */
export function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

/** A table's row; a cell that stands for something that failed may span the rest. */
export function row(...cells) {
  return element("tr", ...cells.map((cell) => element("td", cell)));
}

/** Gives the browser a moment to paint and to take clicks. */
export function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** A duration as the page shows it. */
export function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

import { EdgeDeitError } from "./error.js";

/** A value of a JSON file and where it stands, so that an error can name the place. */
export class Json {
  constructor(value, place) {
    this.value = value;
    this.place = place;
  }

  /** Reads a file's text; `name` stands in front of errors. */
  static parse(text, name) {
    try {
      return new Json(JSON.parse(text), name);
    } catch (error) {
      throw new EdgeDeitError(`${name} is no JSON (${error.message}); bundle the model again`);
    }
  }

  /** Refuses the value: always throws. */
  wrong(expected) {
    const shown = this.value === undefined ? "missing" : JSON.stringify(this.value).slice(0, 80);
    throw new EdgeDeitError(`${this.place} is ${shown}; it must be ${expected}`);
  }

  /** The entry `name` of an object; a missing one is refused when it is read. */
  get(name) {
    const found = this.names().has(name) ? this.value[name] : undefined;
    return new Json(found, `${this.place}: ${name}`);
  }

  /** The names of an object's entries. */
  names() {
    const isObject = this.value !== null && typeof this.value === "object";
    if (!isObject || Array.isArray(this.value)) this.wrong("an object");
    return new Set(Object.keys(this.value));
  }

  /** Any text; `text` refuses an empty one. */
  string() {
    if (typeof this.value !== "string") this.wrong("a text");
    return this.value;
  }

  text() {
    if (this.string() === "") this.wrong("a text");
    return this.value;
  }

  number() {
    if (typeof this.value !== "number" || !Number.isFinite(this.value)) this.wrong("a number");
    return this.value;
  }

  int(least = 0) {
    if (!Number.isSafeInteger(this.value) || this.value < least) {
      this.wrong(`a whole number of at least ${least}`);
    }
    return this.value;
  }

  list() {
    if (!Array.isArray(this.value)) this.wrong("a list");
    return this.value.map((one, index) => new Json(one, `${this.place}[${index}]`));
  }

  numbers() {
    return this.list().map((one) => one.number());
  }

  /** One of some texts or numbers. */
  oneOf(choices) {
    if (!choices.includes(this.value)) this.wrong(choices.join(" or "));
    return this.value;
  }

  sha256() {
    if (typeof this.value !== "string" || !/^[0-9a-f]{64}$/.test(this.value)) {
      this.wrong("64 lower-case hexadecimal digits");
    }
    return this.value;
  }

  /** A name without folders: it becomes part of an address. */
  fileName() {
    const name = this.value;
    if (typeof name !== "string" || !/^[^/\\.][^/\\]*$/.test(name)) this.wrong("a file name without folders");
    return name;
  }
}

/** Refuses a file whose `schema` is not the one that this version reads. */
export function checkSchema(json, schema) {
  const found = json.get("schema");
  if (found.value !== schema) found.wrong(`${schema}, which this version reads; bundle the model again`);
}

/** What a user can mend; the message is one line that says what is wrong and what to do. */
export class EdgeDeitError extends Error {
  name = "EdgeDeitError";
}

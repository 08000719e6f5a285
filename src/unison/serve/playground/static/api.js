// What the page asks the server: facts, a stream of steps, a trace as one page.

const STORED = "unison-api-key";

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) =>
    value ? sessionStorage.setItem(STORED, value) : sessionStorage.removeItem(STORED),
};

// An answer that says what is wrong, and with which field.
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.param = error.param ?? null;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { message: "The server cannot be reached; is it still running?" });
  }
  if (!response.ok) throw new Refused(response.status, await saidIn(response));
  return response;
}

async function saidIn(response) {
  try {
    const { error } = await response.json();
    if (typeof error?.message === "string") return error;
  } catch {
    // no JSON: a proxy's own page, perhaps
  }
  return { message: `The server answered ${response.status} ${response.statusText}.` };
}

export const facts = async () => (await ask("playground/facts")).json();

// Calls hear with every message of a text until it ends.
export async function stream(wish, signal, hear) {
  const response = await ask("playground/stream", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(wish),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const message = JSON.parse(event.replace(/^data: /, ""));
      if (message.event === "failed") throw new Refused(200, message.error);
      ended ||= message.event === "done";
      hear(message);
    }
  }
  if (!ended) throw new Refused(0, { message: "The connection broke before the text was done." });
}

// Returns traces as one HTML page; they travel compressed, as servers limit what they take.
export async function page(documents, names) {
  const plain = new Blob([JSON.stringify({ documents, names })]).stream();
  const body = await new Response(plain.pipeThrough(new CompressionStream("gzip"))).blob();
  const headers = { "Content-Type": "application/gzip" };
  return (await ask("playground/trace", { method: "POST", headers, body })).blob();
}

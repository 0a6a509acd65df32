// What the page asks the server: the REST API that everybody uses, and a few endpoints under /v1.
//
// The token is in this tab's session storage and in the Authorization header, nowhere else.

const NAME = "kvengine-token";
let account = "";

export class Failed extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const setToken = (token) => sessionStorage.setItem(NAME, token);
export const forgetToken = () => sessionStorage.removeItem(NAME);

/** Send a request; throw a failed response, with the server's message. */
export async function ask(method, path, { body, signal, type } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(NAME);
  if (token) headers.authorization = `Bearer ${token}`;
  if (type) headers["content-type"] = type;
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed(0, "The server does not answer.");
  }
  if (!response.ok) throw new Failed(response.status, await reason(response));
  return response;
}

async function reason(response) {
  const text = await response.text();
  try {
    const found = JSON.parse(text);
    if (typeof found.error === "string") return found.error;
    return found.errors[0].message;
  } catch {
    return text.trim() || `${response.status} ${response.statusText}`;
  }
}

const json = async (method, path, options) => (await ask(method, path, options)).json();

/** Find out what the token allows. */
export async function me() {
  const found = await json("GET", "/v1/me");
  account = found.account;
  return found;
}

export const namespaces = async () => (await json("GET", "/v1/namespaces")).namespaces;
export const usage = (month) => json("GET", `/v1/usage?month=${encodeURIComponent(month)}`);
export const live = (signal) => ask("GET", "/v1/live", { signal });

const base = () => `/client/v4/accounts/${account}/storage/kv/namespaces`;
const send = (value) => ({ body: JSON.stringify(value), type: "application/json" });

export const createNamespace = async (title) => (await json("POST", base(), send({ title }))).result;
export const renameNamespace = (id, title) => json("PUT", `${base()}/${id}`, send({ title }));
export const deleteNamespace = (id) => json("DELETE", `${base()}/${id}`);

/** Parse JSON; keep the spelling of numbers that JavaScript would change, if the browser can. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const isExact = typeof value !== "number" || String(value) === (context?.source ?? String(value));
    return isExact || !JSON.rawJSON ? value : JSON.rawJSON(context.source);
  });
}

/** Return a page of keys: {keys, folders, cursor}. */
export async function keys(id, { prefix, delimiter, cursor, limit }) {
  const query = new URLSearchParams({ limit });
  if (prefix) query.set("prefix", prefix);
  if (delimiter) query.set("delimiter", delimiter);
  if (cursor) query.set("cursor", cursor);
  const found = parse(await (await ask("GET", `${base()}/${id}/keys?${query}`)).text());
  const info = found.result_info;
  return { keys: found.result, folders: info.folders || [], cursor: info.cursor };
}

const valuePath = (id, key) => `${base()}/${id}/values/${encodeURIComponent(key)}`;

/** Return the beginning of a value: {bytes, size, version}. */
export async function value(id, key, most) {
  const response = await ask("GET", valuePath(id, key));
  const reader = response.body.getReader();
  const pieces = [];
  let size = 0;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    size += piece.value.length;
    if (size >= most) {
      await reader.cancel();
      break;
    }
  }
  const length = Number(response.headers.get("content-length") ?? size);
  const found = new Uint8Array(await new Blob(pieces).slice(0, most).arrayBuffer());
  return { bytes: found, size: length, version: response.headers.get("kv-version") };
}

/** Return the list entry of one key, or undefined if the key is gone. */
export async function entry(id, key) {
  const found = await keys(id, { prefix: key, limit: 10 });
  return found.keys.find((one) => one.name === key);
}

/** Write a value; with a version, only if nobody else has written it meanwhile. */
export function put(id, key, data, { metadata, expiration, ttl, version }) {
  const query = new URLSearchParams();
  if (ttl) query.set("expiration_ttl", ttl);
  else if (expiration) query.set("expiration", expiration);
  if (version !== null) query.set("if_version", version);
  const body = new FormData();
  body.append("value", new Blob([data]));  // as text its line ends would be changed
  if (metadata !== undefined) body.append("metadata", JSON.stringify(metadata));
  return ask("PUT", `${valuePath(id, key)}?${query}`, { body });
}

export const remove = (id, key) => ask("DELETE", valuePath(id, key));

/** Delete all keys with a prefix, or only count them. */
export const deletePrefix = async (id, prefix, dryRun) =>
  (await json("POST", `/v1/delete-prefix/${id}`, send({ prefix, dry_run: dryRun }))).keys;

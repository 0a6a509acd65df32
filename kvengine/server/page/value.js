// The panel of one key: its value as text, JSON or hex, its metadata, when it ends; and editing it.
//
// A value is only written if it is still the one that was shown, and a new key only if there is
// none: what somebody else wrote meanwhile is not lost.

import * as api from "./api.js";
import { bytes, careful, confirmed, h, moment, say } from "./dom.js";

const PREVIEW_BYTES = 256 * 1024;
const HEX_BYTES = 4096;
const MODES = ["text", "json", "hex"];

export class ValuePanel {
  constructor({ mayWrite, changed }) {
    Object.assign(this, { mayWrite, changed, isOpen: false });
    this.section = h("section", { class: "value", "aria-label": "Value", hidden: true });
  }

  /** Show a key that a list has shown. */
  async open(id, key) {
    const found = await api.value(id, key.name, PREVIEW_BYTES);
    Object.assign(this, { id, key, found, isOpen: true, back: document.activeElement });
    const { text, parsed } = understood(found);
    const mode = parsed !== undefined ? "json" : text !== null ? "text" : "hex";
    this.preview = h("pre", { id: "preview", tabIndex: 0 });
    const head = h("h2", { tabIndex: -1 }, key.name);
    this.section.replaceChildren(head,
      h("p", { class: "facts" }, this.facts()),
      this.modes(mode, text, parsed), this.preview, this.metadata(),
      this.mayWrite ? this.actions(text) : h("p", {}, "This token is read-only."));
    this.section.hidden = false;
    this.show(mode, text, parsed);
    head.focus();
  }

  facts() {
    const { found, key } = this;
    const size = found.bytes.length < found.size
      ? `${bytes(found.size)}, first ${bytes(found.bytes.length)} shown`
      : bytes(found.size);
    const ends = key.expiration ? `expires ${moment(key.expiration)} UTC` : "does not expire";
    return `${size}; version ${found.version ?? "unknown"}; ${ends}`;
  }

  modes(mode, text, parsed) {
    const possible = { text: text !== null, json: parsed !== undefined, hex: true };
    return h("fieldset", { class: "row" }, h("legend", {}, "Show as"), ...MODES.map((name) =>
      h("label", {}, h("input", {
        type: "radio", name: "mode", value: name, checked: name === mode, disabled: !possible[name],
        onchange: () => this.show(name, text, parsed),
      }), ` ${name === "json" ? "JSON" : name}`)));
  }

  show(mode, text, parsed) {
    if (mode === "text") this.preview.textContent = text;
    else if (mode === "json") this.preview.textContent = JSON.stringify(parsed, null, 2);
    else this.preview.textContent = hex(this.found.bytes);
    this.preview.className = mode;
  }

  metadata() {
    const { metadata } = this.key;
    if (metadata === undefined) return h("p", {}, "No metadata.");
    return h("div", {}, h("h3", {}, "Metadata"), h("pre", {}, JSON.stringify(metadata, null, 2)));
  }

  actions(text) {
    const isWhole = this.found.bytes.length === this.found.size;
    const edit = h("button", { type: "button", id: "edit", disabled: text === null || !isWhole,
      onclick: () => this.edit(text) }, "Edit");
    if (edit.disabled) edit.title = "Only complete text values can be edited here.";
    return h("div", { class: "row" }, edit,
      h("button", { type: "button", id: "delete", class: "danger",
        onclick: careful(() => this.remove()) }, "Delete"),
      h("button", { type: "button", onclick: () => this.close() }, "Close"));
  }

  /** Show a form for a new key. */
  fresh(id, prefix) {
    Object.assign(this, {
      id, key: { name: prefix }, found: { version: 0 }, isOpen: true, back: document.activeElement,
    });
    this.section.hidden = false;
    this.form("New key", "", true);
  }

  edit(text) {
    this.form(this.key.name, text, false);
  }

  form(title, text, isNew) {
    const { key } = this;
    const name = h("input", { id: "name", value: key.name, required: true, disabled: !isNew });
    const value = h("textarea", { id: "value", rows: 12, spellcheck: false });
    value.value = text;
    const written = key.metadata === undefined ? "" : JSON.stringify(key.metadata, null, 2);
    const metadata = h("textarea", { id: "metadata", rows: 3, spellcheck: false, value: written });
    const ttl = h("input", { id: "ttl", type: "number", min: 1, inputMode: "numeric" });
    const until = key.expiration
      ? [h("label", {}, h("input", { type: "checkbox", id: "keep", checked: true }),
        ` Keep: expires ${moment(key.expiration)} UTC`)] : [];
    const save = careful(() => this.save({ name, value, metadata, ttl, text }));
    this.section.replaceChildren(h("form", { onsubmit: save }, h("h2", {}, title),
      isNew ? h("label", {}, "Key ", name) : null,
      h("label", {}, "Value ", value), h("label", {}, "Metadata, as JSON ", metadata),
      h("label", {}, "Expires in seconds ", ttl), ...until,
      h("div", { class: "row" }, h("button", { id: "save" }, "Save"),
        h("button", { type: "button", onclick: () => this.close() }, "Cancel"))));
    (isNew ? name : value).focus();
  }

  async save({ name, value, metadata, ttl, text }) {
    const keep = this.section.querySelector("#keep")?.checked;
    let described;
    if (metadata.value.trim()) {
      try {
        described = api.parse(metadata.value);
      } catch (error) {
        metadata.focus();
        throw new Error(`Invalid JSON in the metadata: ${error.message}`);
      }
    }
    // A text area has only line feeds; a value that was not changed keeps its own line ends.
    const same = text !== undefined && value.value === text.replace(/\r\n?/g, "\n");
    try {
      await api.put(this.id, name.value, same ? text : value.value, {
        metadata: described, ttl: ttl.value, version: this.found.version,
        expiration: keep ? this.key.expiration : undefined,
      });
    } catch (error) {
      if (error.status !== 412) throw error;
      throw new Error(this.found.version === 0 ? "A key with this name already exists."
        : "This key has changed in the meantime. Open it again to see the new value.");
    }
    say(`Saved ${name.value}.`);
    this.close();
    await this.changed();
  }

  async remove() {
    const { name } = this.key;
    if (!await confirmed("Delete key", `This deletes “${name}”. It can't be undone.`, "Delete")) return;
    await api.remove(this.id, name);
    say(`Deleted ${name}.`);
    this.close();
    await this.changed();
  }

  close() {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.section.hidden = true;
    this.section.replaceChildren();
    this.back?.focus?.();
  }
}

/** Return a value as text, null if it is none, and as JSON, undefined if it is none. */
function understood({ bytes: data, size }) {
  let text;
  let parsed;
  try {
    const isWhole = data.length === size;
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data, { stream: !isWhole });
    if (/[\u0000-\u0008\u000e-\u001f]/.test(text)) return { text: null, parsed };
  } catch {
    return { text: null, parsed };
  }
  try {
    const found = api.parse(text);
    if (/^\s*[[{]/.test(text)) parsed = found;
  } catch { /* it is a text */ }
  return { text, parsed };
}

/** Return bytes as offset, hex and ASCII, sixteen a line. */
export function hex(data) {
  const lines = [];
  for (let at = 0; at < Math.min(data.length, HEX_BYTES); at += 16) {
    const part = [...data.subarray(at, at + 16)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${digits.padEnd(47)}  ${letters}`);
  }
  if (data.length > HEX_BYTES) lines.push(`… ${bytes(data.length - HEX_BYTES)} more`);
  return lines.join("\n");
}

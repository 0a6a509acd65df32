// The key browser: namespaces, and the keys of one, as a tree of folders and page by page.
//
// A page of keys is asked for when it is wanted, so that a namespace may have any number of them.

import * as api from "./api.js";
import { bytes, careful, confirmed, h, keyCount, moment, say, table } from "./dom.js";
import { ValuePanel } from "./value.js";

const PAGE = 100;

export class KeysView {
  constructor(section, { mayWrite, mayMake }) {
    Object.assign(this, { section, mayWrite, mayMake, id: null, prefix: "", cursor: "" });
    this.list = h("ul", { class: "namespaces" });
    this.title = h("h2", {}, "Keys");
    this.prefixBox = h("input", { type: "search", id: "prefix", spellcheck: false });
    this.delimiterBox = h("input", { id: "delimiter", value: "/", size: 3, maxLength: 16 });
    this.path = h("nav", { "aria-label": "Folder", class: "path" });
    this.rows = h("tbody", { id: "rows" });
    this.more = h("button", { type: "button", id: "more", hidden: true }, "More keys");
    this.more.addEventListener("click", careful(() => this.next()));
    this.panel = new ValuePanel({ mayWrite, changed: () => this.reload() });
    section.replaceChildren(this.side(), this.browser(), this.panel.section);
    document.addEventListener("keydown", (event) => section.hidden || this.onKey(event));
  }

  side() {
    const title = h("input", { id: "new-title", required: true, maxLength: 512 });
    const form = h("form", { hidden: !this.mayMake, onsubmit: careful(async () => {
      const made = await api.createNamespace(title.value);
      title.value = "";
      say(`Created namespace ${made.title}.`);
      location.hash = `#/keys/${made.id}`;
    }) }, h("label", {}, "New namespace ", title), h("button", {}, "Create"));
    return h("aside", { "aria-label": "Namespaces" }, h("h2", {}, "Namespaces"), this.list, form);
  }

  browser() {
    const search = h("form", { class: "row", onsubmit: careful(() => this.go(this.prefixBox.value)) },
      h("label", {}, "Prefix ", this.prefixBox),
      h("label", {}, "Delimiter ", this.delimiterBox),
      h("button", {}, "List"));
    this.tools = h("div", { class: "row", id: "tools", hidden: true },
      h("button", { type: "button", onclick: () => this.panel.fresh(this.id, this.prefix) }, "New key"),
      h("button", { type: "button", id: "delete-prefix", onclick: careful(() => this.removePrefix()) },
        "Delete by prefix"),
      this.mayMake ? h("button", { type: "button", onclick: careful(() => this.removeNamespace()) },
        "Delete namespace") : null);
    return h("div", { class: "browser" }, this.title, search, this.path, this.tools,
      table(["Key", "Expires (UTC)", "Metadata"], this.rows), this.more);
  }

  /** Show a namespace and a folder: what stands behind #/keys. */
  async show([id, ...prefix]) {
    const asked = location.hash;
    this.namespaces = await api.namespaces();
    this.showNamespaces(id);
    if (location.hash !== asked) return;  // the user has gone elsewhere meanwhile
    const found = this.namespaces.find((one) => one.id === id);
    if (!found) {
      if (this.namespaces.length) location.replace(`#/keys/${this.namespaces[0].id}`);
      else this.title.textContent = "No namespaces yet";
      return;
    }
    this.id = id;
    this.prefix = prefix.join("/");
    this.title.textContent = `Keys of ${found.title}`;
    this.tools.hidden = !this.mayWrite;
    this.prefixBox.value = this.prefix;
    this.showPath();
    this.panel.close();
    await this.begin();
  }

  showNamespaces(id) {
    this.list.replaceChildren(...this.namespaces.map((one) => h("li", {}, h("a", {
      href: `#/keys/${one.id}`, "aria-current": one.id === id ? "true" : null, title: one.id,
    }, h("span", {}, one.title), h("small", {}, `${keyCount(one.keys)}, ${bytes(one.bytes)}`)))));
  }

  showPath() {
    const delimiter = this.delimiterBox.value;
    const parts = delimiter ? this.prefix.split(delimiter).slice(0, -1) : [];
    const links = [this.folderLink("", "all keys")];
    let upto = "";
    for (const part of parts) {
      upto += part + delimiter;
      links.push(this.folderLink(upto, part + delimiter));
    }
    this.path.replaceChildren(...links);
  }

  folderLink(prefix, text) {
    return h("a", { href: this.hashOf(prefix) }, text);
  }

  hashOf(prefix) {
    return `#/keys/${this.id}/${prefix.split("/").map(encodeURIComponent).join("/")}`;
  }

  go(prefix) {
    const hash = this.hashOf(prefix);
    if (location.hash === hash) return this.show([this.id, ...prefix.split("/")]);
    location.hash = hash;
    return undefined;
  }

  /** List anew, and show how many keys there are now. */
  async reload() {
    this.namespaces = await api.namespaces();
    this.showNamespaces(this.id);
    await this.begin();
  }

  async begin() {
    this.rows.replaceChildren();
    this.cursor = "";
    await this.next();
    if (!this.rows.children.length) {
      this.rows.append(h("tr", {}, h("td", { colSpan: 3, class: "empty" }, "No keys.")));
    }
  }

  async next() {
    const asked = `${this.id} ${this.prefix}`;
    const page = await api.keys(this.id, {
      prefix: this.prefix, delimiter: this.delimiterBox.value, cursor: this.cursor, limit: PAGE,
    });
    if (asked !== `${this.id} ${this.prefix}`) return;  // somebody went elsewhere meanwhile
    const first = this.rows.children.length;
    this.rows.append(
      ...page.folders.map((folder) => this.folderRow(folder)),
      ...page.keys.map((key) => this.keyRow(key)));
    this.cursor = page.cursor;
    this.more.hidden = !page.cursor;
    if (first) this.rows.children[first]?.querySelector("a, button").focus();
  }

  folderRow(folder) {
    const name = folder.slice(this.prefix.length);
    return h("tr", { class: "folder" },
      h("td", { colSpan: 3 }, h("a", { href: this.hashOf(folder) }, name)));
  }

  keyRow(key) {
    const open = careful(() => this.panel.open(this.id, key));
    const metadata = key.metadata === undefined ? "" : JSON.stringify(key.metadata);
    return h("tr", {},
      h("td", {}, h("button", { type: "button", class: "key", onclick: open },
        key.name.slice(this.prefix.length) || key.name)),
      h("td", {}, key.expiration ? moment(key.expiration) : ""),
      h("td", { class: "metadata", title: metadata }, metadata));
  }

  /** Arrows go from row to row, "/" to the prefix, Escape out of the value or up a folder. */
  onKey(event) {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "Escape" && this.panel.isOpen) {
      this.panel.close();
      event.preventDefault();
    } else if (event.key === "/" && !isTyping) {
      this.prefixBox.focus();
      event.preventDefault();
    } else if (event.key === "Escape" && !isTyping) {
      this.path.querySelector("a:nth-last-child(2)")?.click();
    } else if (["ArrowDown", "ArrowUp"].includes(event.key) && this.rows.contains(event.target)) {
      const all = [...this.rows.querySelectorAll("a, button")];
      all[all.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
      event.preventDefault();
    }
  }

  async removePrefix() {
    const prefix = this.prefixBox.value;
    const count = await api.deletePrefix(this.id, prefix, true);
    const what = prefix ? `that begin with “${prefix}”` : "in this namespace (the prefix is empty)";
    if (!count) {
      say(`No keys ${what}.`);
      return;
    }
    const request = `This deletes ${keyCount(count)} ${what}. It can't be undone.`;
    if (!await confirmed("Delete by prefix", request, `Delete ${keyCount(count)}`)) return;
    const gone = await api.deletePrefix(this.id, prefix, false);
    say(`Deleted ${keyCount(gone)}.`);
    this.panel.close();
    await this.reload();
  }

  async removeNamespace() {
    const { title, keys } = this.namespaces.find((one) => one.id === this.id);
    const request = `This deletes ${title} and its ${keyCount(keys)}. It can't be undone.`;
    if (!await confirmed("Delete namespace", request, `Delete ${title}`)) return;
    await api.deleteNamespace(this.id);
    say(`Deleted namespace ${title}.`);
    location.hash = "#/keys";
  }
}

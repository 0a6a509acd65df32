// What was used in a month, by day and by namespace, and what Workers KV would take for it.

import * as api from "./api.js";
import { bytes, careful, h, number, table } from "./dom.js";

const KINDS = ["reads", "writes", "deletes", "lists"];
const COLUMNS = [...KINDS, "keys", "stored"].map((one) => `#${one}`);

export class UsageView {
  constructor(section, { seesAll }) {
    Object.assign(this, { section, seesAll });
    this.month = h("input", { type: "month", id: "month", value: new Date().toISOString().slice(0, 7) });
    this.month.addEventListener("change", careful(() => this.show()));
    this.found = h("div");
    const form = h("form", { class: "row", onsubmit: careful(() => this.show()) },
      h("label", {}, "Month (UTC) ", this.month));
    section.replaceChildren(...(seesAll ? [form, this.found]
      : [h("p", {}, "Usage is shown only for tokens that can read all namespaces.")]));
  }

  async show() {
    if (!this.seesAll) return;
    const used = await api.usage(this.month.value);
    const total = `$${used.bill.total}`;
    this.found.replaceChildren(
      h("h2", {}, `Price at Workers KV for ${used.month}: `, h("strong", { id: "total" }, total)),
      rows(["", "#used", "#included", "#amount"], used.bill.lines.map((line) =>
        [line.what, number(Number(line.used)), number(Number(line.included)),
          `$${Number(line.amount).toFixed(2)}`])),
      h("h2", {}, "By namespace"),
      rows(["Namespace", ...COLUMNS], used.by_namespace.map((one) =>
        [one.title ?? "(deleted)", ...counts(one), number(one.keys), bytes(one.bytes)])),
      h("h2", {}, "By day"),
      rows(["Day", ...COLUMNS], used.by_day.reverse().map((day) =>
        [day.date, ...counts(day), number(day.keys), bytes(day.bytes)])));
  }
}

const counts = (one) => KINDS.map((kind) => number(one.counts[kind]));

function rows(heads, found) {
  return table(heads, h("tbody", {}, ...found.map(([first, ...rest]) =>
    h("tr", {}, h("th", { scope: "row" }, first),
      ...rest.map((text) => h("td", { class: "number" }, text))))));
}

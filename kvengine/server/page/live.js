// What happens now: rates, latency and hit ratio, edges with their lag, and changes on their
// way to each of them.
//
// The server says how much it has counted; rates are the difference of two lines of its stream, and
// times those of the last ten seconds.

import * as api from "./api.js";
import { bytes, h, milliseconds, number, say, setHeads, table } from "./dom.js";

const KEPT_S = 60;
const WINDOW_S = 10;
const AGAIN_MS = 1000;
const ACTIONS = ["read", "write", "delete", "list"];
const SVG = "http://www.w3.org/2000/svg";

export class LiveView {
  constructor(section, { seesAll }) {
    Object.assign(this, { section, seesAll, lines: [], control: null });
    this.rates = h("tbody", { id: "rates" });
    this.hits = h("p", { id: "hits" });
    this.chart = document.createElementNS(SVG, "svg");
    this.chart.setAttribute("role", "img");
    this.chart.setAttribute("viewBox", "0 0 600 80");
    this.chart.setAttribute("preserveAspectRatio", "none");
    this.edges = h("tbody", { id: "edges" });
    this.changeHead = h("tr");
    this.changes = h("tbody", { id: "changes" });
    section.replaceChildren(
      h("h2", {}, "Requests"),
      table(["", "#per second", "#total", "#p50", "#p90", "#p99"], this.rates), this.hits,
      h("figure", {}, h("figcaption", {}, "Reads per second, last minute"), this.chart),
      ...(seesAll ? [
        h("h2", {}, "Edges"),
        table(["Edge", "#Version", "#Lag", "#Lag, versions", "#Last change took", "#Hit ratio", "#Cache"],
          this.edges),
        h("h2", {}, "Changes, and their time to reach each edge"),
        h("table", {}, h("thead", {}, this.changeHead), this.changes),
        h("p", { class: "note" }, "Measured from the write at the primary until the edge's report of it ",
          "reached the primary, so the return trip is included."),
      ] : [h("p", {}, "Edges and changes are shown only for tokens that can read all namespaces.")]));
  }

  async show() {
    if (this.control) return;
    const control = this.control = new AbortController();
    const names = await this.titles();
    while (!control.signal.aborted) {
      try {
        await this.listen(control.signal, names);
      } catch (error) {
        if (error.name === "AbortError") return;
        say(error.message, true);
        if (error.status === 401 || error.status === 403) return;
      }
      await new Promise((resolve) => { setTimeout(resolve, AGAIN_MS); });
    }
  }

  hide() {
    this.control?.abort();
    this.control = null;
  }

  async titles() {
    return new Map((await api.namespaces()).map((one) => [one.id, one.title]));
  }

  /** Draw each line of the stream, until it ends. */
  async listen(signal, names) {
    const response = await api.live(signal);
    say("");
    this.lines = [];
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let left = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const found = (left + value).split("\n");
      left = found.pop();
      for (const text of found) this.add(JSON.parse(text), names);
    }
  }

  add(line, names) {
    this.lines.push(line);
    while (this.lines[0].time < line.time - KEPT_S) this.lines.shift();
    this.drawRates(line);
    this.drawChart();
    if (this.seesAll) {
      this.drawEdges(line);
      this.drawChanges(line, names);
    }
  }

  /** Return the newest line that is at least so many seconds older than the last. */
  before(seconds) {
    const last = this.lines.at(-1).time;
    return this.lines.findLast((one) => one.time <= last - seconds) ?? this.lines[0];
  }

  drawRates(line) {
    const second = this.before(1);
    const window = this.before(WINDOW_S).figures;
    const now = line.figures;
    const elapsed = line.time - second.time;
    this.rates.replaceChildren(...ACTIONS.map((action) => {
      const count = now.requests[action] - second.figures.requests[action];
      const times = now.times[action].map((one, n) => one - window.times[action][n]);
      const shares = [0.5, 0.9, 0.99].map((share) => upTo(quantile(times, now.bounds_ms, share)));
      return h("tr", {}, h("th", { scope: "row" }, action),
        ...[elapsed ? number(Math.round(count / elapsed)) : "…", number(now.requests[action]), ...shares]
          .map((text) => h("td", { class: "number" }, text)));
    }));
    const reads = now.requests.read - window.requests.read;
    const ratio = reads ? `${(100 * (now.hot - window.hot) / reads).toFixed(1)} %` : "no reads";
    this.hits.textContent = `Hit ratio (reads served from memory, last ${WINDOW_S} s): ${ratio}. `
      + `Failed requests: ${number(now.failed)}. Version ${number(line.version)}.`;
  }

  drawChart() {
    const points = [];
    for (let n = 1; n < this.lines.length; n += 1) {
      const [a, b] = [this.lines[n - 1], this.lines[n]];
      const read = b.figures.requests.read - a.figures.requests.read;
      if (b.time > a.time) points.push([b.time, read / (b.time - a.time)]);
    }
    const end = this.lines.at(-1).time;
    const most = Math.max(1, ...points.map(([, rate]) => rate));
    const places = points.map(([time, rate]) =>
      `${(600 * (1 - (end - time) / KEPT_S)).toFixed(1)},${(78 - 74 * rate / most).toFixed(1)}`);
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", places.join(" "));
    this.chart.setAttribute("aria-label", `at most ${number(Math.round(most))} reads per second`);
    this.chart.replaceChildren(line);
  }

  drawEdges(line) {
    const before = new Map(this.before(WINDOW_S).edges.map((one) => [one.name, one]));
    const rows = line.edges.map((one) => {
      const old = before.get(one.name) ?? one;
      const isNew = one.reads < old.reads;  // it began again
      const reads = one.reads - (isNew ? 0 : old.reads);
      const hits = one.hits - (isNew ? 0 : old.hits);
      const lag = (one.lag_is_longer ? "> " : "") + (one.lag_ms ? milliseconds(one.lag_ms) : "0 ms");
      const state = one.is_there ? lag : `silent for ${number(Math.round(one.silent_s))} s`;
      const cells = [number(one.position), state, number(one.lag_versions), milliseconds(one.last_ms),
        reads ? `${(100 * hits / reads).toFixed(1)} %` : "no reads", bytes(one.memory_bytes)];
      return h("tr", { class: one.is_there ? "" : "lost" }, h("th", { scope: "row" }, one.name),
        ...cells.map((text) => h("td", { class: "number" }, text)));
    });
    this.edges.replaceChildren(...(rows.length ? rows : [h("tr", {}, h("td",
      { colSpan: 7, class: "empty" }, "No edges connected. Start one: kvengine serve --upstream URL"))]));
  }

  drawChanges(line, names) {
    const places = line.edges.map((one) => one.name);
    setHeads(this.changeHead,
      ["#Version", "Time (UTC)", "Change", ...places.map((place) => `#${place}`)]);
    this.changes.replaceChildren(...line.changes.map((change) => {
      const title = names.get(change.namespace_id) ?? change.namespace_id;
      const what = change.namespace_id ? `${change.kind} ${title}: ${change.key}` : "namespaces or tokens";
      return h("tr", {}, h("td", { class: "number" }, number(change.version)),
        h("td", {}, new Date(change.time * 1000).toISOString().slice(11, 23)),
        h("td", { class: "what", title: what }, what),
        ...places.map((place) => arrived(change.reached_ms[place])));
    }));
  }
}

function arrived(ms) {
  return ms === undefined ? h("td", { class: "number waiting" }, "…")
    : h("td", { class: "number arrived" }, milliseconds(ms));
}

/** Return a bound that this share of all is not above; null if there are none. */
function quantile(counts, bounds, share) {
  const wanted = share * counts.reduce((sum, one) => sum + one, 0);
  if (!wanted) return null;
  let seen = 0;
  for (const [n, count] of counts.entries()) {
    seen += count;
    if (count && seen >= wanted) return bounds[n] ?? Infinity;
  }
  return null;
}

function upTo(ms) {
  if (ms === null) return "";
  return ms === Infinity ? "> 10 s" : `≤ ${milliseconds(ms)}`;
}

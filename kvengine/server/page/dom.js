// Short ways to elements.
//
// Text is always set as text, never as HTML: a key may be called "<script>".

/** Make an element; properties that begin with "on" are listeners, "class" and "aria-" attributes. */
export function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

/** Show a message to the user; screen readers announce it. */
export function say(text, isError = false) {
  const said = find("said");
  said.textContent = text;
  said.className = isError ? "error" : "";
}

/** Return a listener that shows errors instead of dropping them. */
export function careful(action) {
  return async (event) => {
    event?.preventDefault?.();
    try {
      await action(event);
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, true);
    }
  };
}

/** Ask for confirmation; resolves to true or false. */
export function confirmed(title, text, verb) {
  const dialog = find("dialog");
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.onclose = null;
      dialog.close();
      resolve(value);
    };
    dialog.replaceChildren(
      h("h2", { id: "dialog-title" }, title),
      h("p", {}, text),
      h("div", { class: "row" },
        h("button", { type: "button", onclick: answer(false), autofocus: true }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: answer(true) }, verb)));
    dialog.onclose = () => resolve(false);
    dialog.showModal();
  });
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/** Return a number of bytes in a readable unit. */
export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(count < 10 ? 1 : 0) : count} ${UNITS[unit]}`;
}

export const number = (count) => count.toLocaleString("en-US");

/** Return a number of keys, in words. */
export const keyCount = (count) => (count === 1 ? "1 key" : `${number(count)} keys`);

/** Make a table; a column whose head begins with "#" holds numbers. */
export function table(heads, body) {
  const head = h("tr");
  setHeads(head, heads);
  return h("table", {}, h("thead", {}, head), body);
}

export function setHeads(row, heads) {
  row.replaceChildren(...heads.map((text) => h("th",
    { scope: "col", class: text.startsWith("#") ? "number" : null }, text.replace(/^#/, ""))));
}

/** Return milliseconds with as many digits as mean something. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms >= 10000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 100) return `${ms.toFixed(0)} ms`;
  return ms >= 1 ? `${ms.toFixed(1)} ms` : `${(ms * 1000).toFixed(0)} µs`;
}

/** Return the moment of a time in seconds. */
export const moment = (seconds) => new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19);

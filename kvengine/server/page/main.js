// The page: who is signed in, and which view is shown.
//
// The view is in the fragment of the URL (#/keys/ID/prefix), so that back and reload work; a
// fragment is not sent to the server.

import * as api from "./api.js";
import { careful, find, say } from "./dom.js";
import { KeysView } from "./keys.js";
import { LiveView } from "./live.js";
import { UsageView } from "./usage.js";

let views = {};
let shown = null;

/** Show what the URL says. */
async function show() {
  const [, name = "keys", ...rest] = location.hash.split("/").map(decodeURIComponent);
  const view = views[name] ?? views.keys;
  if (shown !== view) shown?.hide?.();
  shown = view;
  for (const [other, one] of Object.entries(views)) {
    one.section.hidden = one !== view;
    const link = document.querySelector(`#views a[href="#/${other}"]`);
    if (one === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await view.show(rest);
}

/** Ask who this is; without a valid token, ask for one. */
async function begin() {
  let me;
  try {
    me = await api.me();
  } catch (error) {
    if (error.status !== 401) throw error;
    find("sign-in").hidden = false;
    find("token").focus();
    if (sessionStorage.length) say("This token is not valid.", true);
    api.forgetToken();
    return;
  }
  const mayWrite = me.write;
  find("sign-in").hidden = true;
  find("views").hidden = false;
  find("leave").hidden = me.is_open;
  const kind = me.admin ? "administrator" : mayWrite ? "read and write" : "read-only";
  find("who").textContent = me.is_open ? "no tokens: open to this machine" : `${me.name}: ${kind}`;
  say("");
  views = {
    keys: new KeysView(find("keys"), { mayWrite, mayMake: mayWrite && me.namespaces === null }),
    live: new LiveView(find("live"), { seesAll: me.namespaces === null }),
    usage: new UsageView(find("usage"), { seesAll: me.namespaces === null }),
  };
  await show();
}

find("sign-in").addEventListener("submit", careful(async () => {
  api.setToken(find("token").value.trim());
  find("token").value = "";
  await begin();
}));
find("leave").addEventListener("click", () => {
  api.forgetToken();
  location.hash = "";
  location.reload();
});
window.addEventListener("hashchange", careful(show));
careful(begin)();

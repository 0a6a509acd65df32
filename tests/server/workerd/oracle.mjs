// Miniflare with the same Worker: what KV should answer.  node oracle.mjs NODE_MODULES WORKER
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.argv[2]}/miniflare/package.json`);
const { Miniflare } = require("miniflare");
const miniflare = new Miniflare({
  modules: true,
  script: readFileSync(process.argv[3], "utf8"),
  kvNamespaces: ["KV"],
  compatibilityDate: "2026-06-01",
  host: "127.0.0.1",
  port: 0,
});
console.log((await miniflare.ready).href);

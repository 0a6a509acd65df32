using Workerd = import "/workerd/workerd.capnp";

# {kv} and {bindings} are filled in by `python -m kvengine.examples.worker`.
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [
        (name = "worker.js", esModule = embed "worker.js"),
        (name = "@cloudflare/kv-asset-handler", esModule = embed "kv-asset-handler.js"),
      ],
      compatibilityDate = "2026-06-01",
      bindings = [{bindings}],
    )),
    {kv}
  ],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);

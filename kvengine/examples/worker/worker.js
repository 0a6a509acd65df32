// A site whose pages, flags and access tokens are in KV.
//
//   GET /            a static site, through kv-asset-handler, from SITE
//   GET /flags       all feature flags, from FLAGS
//   GET /private     for who has an access token that is in TOKENS
import { getAssetFromKV, NotFoundError } from "@cloudflare/kv-asset-handler";

async function flags(env) {
  const { keys } = await env.FLAGS.list();
  if (keys.length === 0) return Response.json({});
  const values = await env.FLAGS.get(keys.map((key) => key.name), { cacheTtl: 30 });
  return Response.json(Object.fromEntries(values));
}

async function secret(request, env) {
  const token = request.headers.get("Authorization")?.replace(/^Bearer /, "");
  const user = token ? await env.TOKENS.get(token, "json") : null;
  if (user === null) return new Response("Who are you?\n", { status: 401 });
  return new Response(`Welcome, ${user.name}.\n`);
}

export default {
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url);
    if (pathname === "/flags") return flags(env);
    if (pathname === "/private") return secret(request, env);
    try {
      return await getAssetFromKV(
        { request, waitUntil: (promise) => context.waitUntil(promise) },
        // The keys are the paths, and KV is cache enough.
        { ASSET_NAMESPACE: env.SITE, ASSET_MANIFEST: "{}", cacheControl: { bypassCache: true } },
      );
    } catch (error) {
      if (error instanceof NotFoundError) return new Response("Not found\n", { status: 404 });
      throw error;
    }
  },
};

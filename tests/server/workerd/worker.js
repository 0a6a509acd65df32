// Does what it is told with its KV binding, and tells what came of it.
const encode = (value) => {
  if (value instanceof ArrayBuffer) {
    return { bytes: [...new Uint8Array(value)] };
  }
  if (value instanceof Map) {
    return { map: [...value] };
  }
  return value === undefined ? null : value;
};

const given = (value) => {
  if (value === null || typeof value !== "object") return value;
  if (value.bytes) return new Uint8Array(value.bytes);
  if (value.repeat) return value.text.repeat(value.repeat);
  if (value.stream !== undefined) {
    return new Response(value.stream).body;
  }
  if (value.chunks) {
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    (async () => {
      for (const chunk of value.chunks) await writer.write(new TextEncoder().encode(chunk));
      await writer.close();
    })();
    return readable;
  }
  return value;
};

export default {
  async fetch(request, env) {
    const results = [];
    for (const { op, args } of await request.json()) {
      try {
        if (op === "put") args[1] = given(args[1]);
        let found = await env.KV[op](...args);
        if (op === "get" && (args[1] === "stream" || args[1]?.type === "stream")) {
          found = await new Response(found).text();
        }
        if (op === "length") found = (await env.KV.get(args[0], "arrayBuffer")).byteLength;
        results.push({ result: encode(found) });
      } catch (error) {
        results.push({ error: `${error.name}: ${error.message}` });
      }
    }
    return Response.json(results);
  },
};

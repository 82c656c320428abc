// A client in a guest's namespace: connects to an address that it chooses, asks there for a name, and prints what it is told.
const [address, protocol, name, certificate] = Deno.args as [string, "http" | "https", string, string | undefined];

async function ask(): Promise<string> {
  const raw = await Deno.connect({ hostname: address, port: protocol === "https" ? 443 : 80 });
  using connection = protocol === "https" ? await Deno.startTls(raw, { hostname: name, caCerts: [certificate!] }) : raw;
  await connection.write(new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`));
  let text = "";
  const buffer = new Uint8Array(4096);
  for (let count = await connection.read(buffer); count !== null; count = await connection.read(buffer)) {
    text += new TextDecoder().decode(buffer.subarray(0, count));
  }
  return text;
}

console.log(await ask().catch((error) => `${error.name}: ${error.message}`));

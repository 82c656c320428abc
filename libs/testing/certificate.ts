/** A server's certificate for tests, by OpenSSL: signed by itself, but no authority. Valid for a day. */
export async function testCertificate(name: string): Promise<{ cert: string; key: string }> {
  const directory = await Deno.makeTempDir({ prefix: "certificate-" });
  try {
    const [key, cert] = [`${directory}/key.pem`, `${directory}/cert.pem`];
    const options = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "1",
    ];
    const extensions = [`subjectAltName=DNS:${name}`, "basicConstraints=critical,CA:FALSE"].flatMap((
      text,
    ) => ["-addext", text]);
    const command = new Deno.Command("openssl", {
      args: [...options, "-subj", `/CN=${name}`, ...extensions, "-keyout", key, "-out", cert],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
    const { success, stderr } = await command.output();
    if (!success) throw new Error(`openssl: ${new TextDecoder().decode(stderr)}`);
    return { cert: await Deno.readTextFile(cert), key: await Deno.readTextFile(key) };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

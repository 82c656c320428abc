/** A certificate for tests that names one host and signs itself, by OpenSSL: valid for a day. */
export async function testCertificate(name: string): Promise<{ cert: string; key: string }> {
  const directory = await Deno.makeTempDir({ prefix: "webhook-" });
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
    const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
    const command = new Deno.Command("openssl", {
      args: [...options, ...subject, "-keyout", key, "-out", cert],
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

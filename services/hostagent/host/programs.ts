import { TorporError } from "@torpor/errors";

/** Where Debian installs programs; a service's PATH often lacks the sbin directories. */
const DIRECTORIES = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/**
 * The absolute path of a program.
 * @param debianPackage has it; named in the error's hint.
 * @throws TorporError `config_invalid` when it is not installed.
 */
export async function findProgram(name: string, debianPackage: string): Promise<string> {
  for (const directory of DIRECTORIES) {
    const path = `${directory}/${name}`;
    try {
      if ((await Deno.stat(path)).isFile) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new TorporError("config_invalid", `${name} is not installed`, { hint: `apt-get install ${debianPackage}` });
}

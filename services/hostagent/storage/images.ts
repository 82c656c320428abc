import { join } from "@std/path";
import { z } from "zod";
import { TorporError } from "@torpor/errors";

/** The file of the cache that names the current image set; services/guest/image writes it. */
const image = z.object({ hash: z.string().regex(/^[0-9a-f]{8,64}$/), path: z.string().min(1) });
const manifestSchema = z.object({
  schema: z.literal(1),
  content_hash: z.string(),
  kernel: image,
  initramfs: image,
  base: image,
});

/** What a new sandbox is booted from: absolute paths. */
export interface Image {
  kernel: string;
  initramfs: string;
  base: string;
  /** Content hash of the base image, which the sandbox needs for as long as it lives. */
  baseHash: string;
}

/** The only template of this version: the image set that the cache names. */
const TEMPLATE = "base";

/** The guest images of this host. */
export class Images {
  readonly #cache: string;
  readonly #manifest: string;

  /** @param cache the cache directory, @param manifest its images.json. */
  constructor(cache: string, manifest: string) {
    this.#cache = cache;
    this.#manifest = manifest;
  }

  /**
   * The current images of a template.
   * @throws TorporError `template_not_found`; `config_invalid` when the images are not built.
   */
  async current(template: string): Promise<Image> {
    if (template !== TEMPLATE) {
      throw new TorporError("template_not_found", `no template "${template}" on this host`, { field: "template" });
    }
    const { kernel, initramfs, base } = await this.#read();
    return {
      kernel: join(this.#cache, kernel.path),
      initramfs: join(this.#cache, initramfs.path),
      base: join(this.#cache, base.path),
      baseHash: base.hash,
    };
  }

  /** The base image with a content hash: also after a newer one became current. */
  basePath(hash: string): string {
    return join(this.#cache, "base", hash, "base.ext4");
  }

  async #read(): Promise<z.infer<typeof manifestSchema>> {
    try {
      return manifestSchema.parse(JSON.parse(await Deno.readTextFile(this.#manifest)));
    } catch (cause) {
      throw new TorporError("config_invalid", `the guest images are not usable: ${this.#manifest}`, {
        cause,
        hint: "`torpor up` builds them",
      });
    }
  }
}

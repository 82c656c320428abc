import { join } from "@std/path";
import ts from "typescript";

/**
 * Compiles TypeScript for Node and browsers: ES modules, their types, and maps to the sources.
 * @throws Error with all findings of the compiler.
 */
export async function compile(sources: string, output: string): Promise<void> {
  // What differs between platforms is asked for by name, and need not exist.
  const platforms = join(sources, "platforms.d.ts");
  await Deno.writeTextFile(platforms, "declare const Deno: { errors: { Http: new () => Error } } | undefined;\n");
  const files = [...Deno.readDirSync(sources)].map(({ name }) => join(sources, name));
  const program = ts.createProgram(files, {
    outDir: output,
    rootDir: sources,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: [
      "lib.es2024.d.ts",
      "lib.esnext.disposable.d.ts",
      "lib.dom.d.ts",
      "lib.dom.iterable.d.ts",
      "lib.dom.asynciterable.d.ts",
    ],
    types: [],
    strict: true,
    declaration: true,
    sourceMap: true,
    rewriteRelativeImportExtensions: true,
    skipLibCheck: true,
    // The dependencies are resolved and checked where the package is used, and by `deno check` here.
    noCheck: true,
  });
  const { diagnostics, emitSkipped } = program.emit();
  await Deno.remove(platforms);
  if (emitSkipped || diagnostics.length > 0) {
    const host = {
      getCanonicalFileName: (name: string) => name,
      getCurrentDirectory: () => sources,
      getNewLine: () => "\n",
    };
    throw new Error(ts.formatDiagnostics(diagnostics, host));
  }
}

import { PAGE } from "./guest_image.ts";
import type { Random } from "./random.ts";
import type { Range, UserVmm } from "./user_vmm.ts";

/** What a guest did, and what it read that the model does not know. */
export interface GuestStep {
  done: string;
  wrong?: string;
}

/** The pager installs up to so many pages around a fault: most ranges begin and end inside of one window. */
const WINDOW_PAGES = 16;

/** One random thing that a running guest, its devices or its balloon do. */
export async function guestStep(vm: UserVmm, random: Random): Promise<GuestStep> {
  const size = vm.image.memory.length;
  const by = random.pick(["cpu", "device"] as const);
  const action = random.weighted({ write: 5, scatter: 3, clear: 3, touch: 1, balloon: 3, read: 3, disk: 2 });
  const bytes = randomRange(size, random);
  const pages = wholePages(bytes);
  switch (action) {
    case "write":
      await vm.write(bytes.offset, random.bytes(bytes.length), by);
      return { done: `${by} writes ${inWords(bytes)}` };
    case "scatter":
      return await scatter(vm, size, random);
    case "clear": {
      const range = random.chance(0.5) ? bytes : pages;
      await vm.clear(range);
      return { done: `clears ${inWords(range)}` };
    }
    case "touch":
      await vm.touch(pages);
      return { done: `touches ${inWords(pages)}` };
    case "balloon":
      return { done: `gives back ${inWords(pages)}`, wrong: await vm.balloon(pages) };
    case "read":
      return { done: `${by} reads ${inWords(bytes)}`, wrong: await vm.compare(bytes, by) };
    case "disk": {
      const range = randomRange(vm.image.disk.length, random);
      await vm.writeDisk(range.offset, random.bytes(range.length));
      return { done: `writes the disk ${inWords(range)}` };
    }
  }
}

/** Single pages far from each other, some of them zero: many short extents. */
async function scatter(vm: UserVmm, size: number, random: Random): Promise<GuestStep> {
  const stride = random.between(2, 9);
  const first = random.between(0, size / PAGE - 1);
  const pages: number[] = [];
  for (let page = first; page < size / PAGE && pages.length < 12; page += stride) pages.push(page);
  for (const page of pages) {
    const range = { offset: page * PAGE, length: PAGE };
    if (random.chance(0.3)) await vm.clear(range);
    else await vm.write(range.offset, random.bytes(PAGE), "cpu");
  }
  return { done: `writes and clears pages ${pages.join(" ")}` };
}

/** Mostly a few pages, sometimes one byte, sometimes much; begins and ends inside of pages. */
function randomRange(size: number, random: Random): Range {
  const kind = random.weighted({ bytes: 2, pages: 6, window: 2, much: 1 });
  const most = { bytes: 64, pages: 5 * PAGE, window: 3 * WINDOW_PAGES * PAGE, much: size * 0.9 }[kind];
  const length = random.between(1, Math.floor(most));
  return { offset: random.between(0, size - length), length };
}

/** The pages that a range touches. */
function wholePages({ offset, length }: Range): Range {
  const start = offset - offset % PAGE;
  const end = Math.ceil((offset + length) / PAGE) * PAGE;
  return { offset: start, length: end - start };
}

function inWords({ offset, length }: Range): string {
  return `[${offset}, +${length}) (page ${Math.floor(offset / PAGE)})`;
}

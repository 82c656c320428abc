/** The processor's time-stamp counter. @module */
import { check } from "./errors.ts";
import { native } from "./library.ts";

/** Frequency of this host's time-stamp counter in kHz. The first call measures for 40 ms, later ones remember. */
export function tscKhz(): number {
  return check("tscKhz", native().torpor_tsc_khz());
}

/**
 * Told about every step of a build.
 *
 * @param step which artefact: `kernel`, `base`, `initramfs`, or `images` for the set as a whole
 * @param fraction 0 to 1 of the whole build, or undefined while it can't be said
 * @param message one line for a person
 */
export type Progress = (step: string, fraction: number | undefined, message: string) => void;

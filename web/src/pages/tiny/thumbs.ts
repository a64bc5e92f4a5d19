// The thumbnails of a set of images, each numbered within its class.
import type { Picture } from "./types";

export interface Thumb {
  index: number;
  picture: Picture;
  /** Counted from 1 within its class. */
  number: number;
  wrong: boolean;
  chosen: boolean;
}

/** Of all pictures, or those of a class; `chosen` is the index of the one that is looked at. */
export function thumbsOf(
  pictures: readonly Picture[],
  wrong: readonly boolean[],
  chosen: number | null,
  label: Picture["label"] | null = null,
): Thumb[] {
  const counted = [0, 0];
  const all = pictures.map((picture, index) => ({
    index,
    picture,
    number: ++counted[picture.label]!,
    wrong: wrong[index] ?? false,
    chosen: index === chosen,
  }));
  return label === null ? all : all.filter((thumb) => thumb.picture.label === label);
}

// What the two panes show: their pictures, what lights up in them, and the numbers under the pointer.
import { show } from "../../lib/numbers";
import type { Result, Spot } from "./bench.svelte";
import { numberAt, type Marks, type Picture } from "./paint";
import type { View } from "./picture";
import { fedBy, windowOf, type Geometry, type Place, type Tap } from "./windows";

/** How a result is drawn; `full` is the number of white, `shape` draws the border of the step that it goes into. */
export function pictureOf(
  result: Result,
  { view, full, channel, shape }: { view: View; full: number; channel: number; shape: Geometry | null },
): Picture {
  const { maps, digits } = result;
  const picture = { numbers: maps, channel, digits, shape };
  if (!result.picture) return { ...picture, look: "signed", range: result.largest };
  return { ...picture, look: maps.channels === 3 && view === "colour" ? "rgb" : "grey", range: full };
}

/** The cells of the window that the pointer is on, in the kernel, the products or the input. */
export function litCells(
  spot: Spot | null,
  taps: readonly Tap[],
): readonly { row: number; column: number }[] {
  if (spot?.part === "window") return [spot];
  if (spot?.part !== "input") return [];
  return taps.filter((tap) => tap.y === spot.y && tap.x === spot.x);
}

interface Looked {
  spot: Spot | null;
  pinned: boolean;
  /** Of the selected step; null where its result is missing. */
  shape: Geometry | null;
}

/** In the input: the window, the cell that is pointed at or wins, and with a pinned window the one under the pointer. */
export function inputMarks({ spot, pinned, shape }: Looked, taps: readonly Tap[], winner: Tap | null): Marks {
  const [lit] = litCells(spot, taps);
  const tap = taps.find((each) => lit && each.row === lit.row && each.column === lit.column);
  return {
    window: [...taps],
    strong: spot?.part === "input" ? spot : (tap ?? winner),
    faint: [],
    other: shape && pinned && spot?.part === "output" ? windowOf(shape, spot.y, spot.x) : [],
  };
}

/** In the result: the cell that is looked at, those that the pixel under the pointer feeds, and the one under the pointer. */
export function outputMarks({ spot, pinned, shape }: Looked, at: Place): Marks {
  return {
    window: [],
    strong: at,
    faint: shape && spot?.part === "input" ? fedBy(shape, spot.y, spot.x) : [],
    other: pinned && spot?.part === "output" ? [spot] : [],
  };
}

/** The numbers of a picture's cell, one for each channel that is seen, and whether it is a cell of the border. */
export function pointedAt(picture: Picture, y: number, x: number): { values: string; border: boolean } {
  const { numbers, look, channel, digits } = picture;
  const channels = look === "rgb" && numbers.channels === 3 ? [0, 1, 2] : [channel];
  const values = channels.map((each) => show(numberAt(picture, y, x, each), digits)).join(", ");
  return { values, border: y < 0 || x < 0 || y >= numbers.height || x >= numbers.width };
}

// The image before the first step: its grey, its range of numbers, its look; and drawings as a short text.
import type { Numbers } from "../../api/arrays";
import type { Step } from "../../api/client";
import { depth } from "./steps";

/** Colour, one of its channels, or its grey. */
export type View = "colour" | "red" | "green" | "blue" | "grey";
export const VIEWS: readonly View[] = ["colour", "red", "green", "blue", "grey"];

export function channelOf(view: View): number {
  return view === "green" ? 1 : view === "blue" ? 2 : 0;
}

/** 0.299 R + 0.587 G + 0.114 B, rounded: the weights in 65536ths, as Pillow has them. Grey stays as it is. */
export function toGrey(pixels: Numbers): Numbers {
  const { height, width, channels, values } = pixels;
  if (channels === 1) return pixels;
  const grey = new Float64Array(height * width);
  for (let cell = 0; cell < grey.length; cell++) {
    const [red, green, blue] = values.subarray(cell * channels, cell * channels + 3);
    grey[cell] = Math.floor((red! * 19595 + green! * 38470 + blue! * 7471 + 32768) / 65536);
  }
  return { height, width, channels: 1, values: grey };
}

/** Pixels 0..255 as what the first step gets: grey or not, up to 255 or up to 1. */
export function prepared(pixels: Numbers, view: View, full: 255 | 1): Numbers {
  const chosen = view === "grey" ? toGrey(pixels) : pixels;
  return full === 255 ? chosen : { ...chosen, values: chosen.values.map((value) => value / 255) };
}

/** Whether a step makes a picture of a picture: numbers from black to white again. */
export function keepsPicture(step: Step): boolean {
  if (step.kind === "relu") return true;
  if (step.kind === "pool") return step.pool !== "sum";
  const weights = step.kernel.flat(2) as number[];
  const sum = weights.reduce((a, b) => a + b, 0);
  return depth(step.kernel) === null && weights.every((weight) => weight >= 0) && sum <= 1 + 1e-9;
}

/** A drawing of ink (1) and paper (0), square, as text: `28:` and base64 for addresses, eight pixels a byte. */
export function writeDrawing(ink: Uint8Array): string {
  const side = Math.sqrt(ink.length);
  const packed = new Uint8Array(Math.ceil(ink.length / 8));
  ink.forEach((on, cell) => (packed[cell >> 3]! |= on << (7 - (cell & 7))));
  const text = btoa(String.fromCharCode(...packed));
  return `${side}:${text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

/** The ink of `writeDrawing`; null where the text is none. */
export function readDrawing(text: string): Uint8Array<ArrayBuffer> | null {
  const [, side, code] = /^(16|28):([\w-]+)$/.exec(text) ?? [];
  if (side === undefined || code === undefined) return null;
  const ink = new Uint8Array(Number(side) ** 2);
  try {
    const packed = atob(code.replaceAll("-", "+").replaceAll("_", "/"));
    if (packed.length !== Math.ceil(ink.length / 8)) return null;
    return ink.map((_, cell) => (packed.charCodeAt(cell >> 3) >> (7 - (cell & 7))) & 1);
  } catch {
    return null;
  }
}

/** A drawing as pixels: paper 0, ink 255. */
export function drawn(ink: Uint8Array): Numbers {
  const side = Math.sqrt(ink.length);
  return { height: side, width: side, channels: 1, values: Float64Array.from(ink, (on) => on * 255) };
}

// All maps of a layer as small images beside one another on one canvas, from which they are drawn enlarged, wherever and as often as wanted.
import type { Numbers } from "../../api/arrays";
import { mix, signed, type Palette, type Rgb } from "../../lib/colour";

export type Look = "signed" | "ink";

// Even, so that zero is exactly the ground; a multiple of 255, so that every grey of a pixel has its own step.
const STEPS = 510;

/** Colours of -1..1 (`signed`) or 0..1 (`ink`: from the paper to the ink of the theme) as 32-bit pixels. */
function ramp(look: Look, palette: Palette): Uint32Array {
  const colours = new Uint32Array(STEPS + 1);
  for (let step = 0; step <= STEPS; step++) {
    const share = step / STEPS;
    const [red, green, blue]: Rgb =
      look === "ink" ? mix(palette.ground, palette.ink, share) : signed(2 * share - 1, 1, palette);
    colours[step] = new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0]!;
  }
  return colours;
}

const ramps = new Map<Palette, Record<Look, Uint32Array>>();

function rampOf(look: Look, palette: Palette): Uint32Array {
  let both = ramps.get(palette);
  if (!both) {
    both = { signed: ramp("signed", palette), ink: ramp("ink", palette) };
    ramps.set(palette, both);
  }
  return both[look];
}

/** Pixels of the first `count` maps, beside one another: height x (count x width). */
export function pixels(
  numbers: Numbers,
  count: number,
  range: number,
  look: Look,
  palette: Palette,
): Uint32Array<ArrayBuffer> {
  const { height, width, channels, values } = numbers;
  const colours = rampOf(look, palette);
  const [zero, perUnit] = look === "ink" ? [0, STEPS / range] : [STEPS / 2, STEPS / 2 / range];
  const result = new Uint32Array(height * width * count);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let channel = 0; channel < count; channel++) {
      for (let x = 0; x < width; x++) {
        const value = range > 0 ? values[(y * width + x) * channels + channel]! : 0;
        const step = Math.round(zero + (range > 0 ? value * perUnit : 0));
        result[at++] = colours[Math.min(Math.max(step, 0), STEPS)]!;
      }
    }
  }
  return result;
}

export class Atlas {
  readonly #context = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!;
  #height = 0;
  #width = 0;

  fill(numbers: Numbers, count: number, range: number, look: Look, palette: Palette): void {
    const { canvas } = this.#context;
    this.#height = numbers.height;
    this.#width = numbers.width;
    const width = numbers.width * count;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== numbers.height) canvas.height = numbers.height;
    const bytes = new Uint8ClampedArray(pixels(numbers, count, range, look, palette).buffer);
    this.#context.putImageData(new ImageData(bytes, width, numbers.height), 0, 0);
  }

  /** Draw map number `map` with sharp pixels. */
  copy(to: CanvasRenderingContext2D, map: number, x: number, y: number, width: number, height: number): void {
    const [from, down] = [this.#width, this.#height];
    to.imageSmoothingEnabled = false;
    to.drawImage(this.#context.canvas, map * from, 0, from, down, x, y, width, height);
  }
}

// Which single pixel turns the answer.
import { answer, emptyPass, forward } from "./network";
import type { Parameters, Shape } from "./types";

/** A pixel turned: what is paper, or nearer to paper, becomes full ink, the others paper. */
export function turned(pixels: Float64Array<ArrayBuffer>, pixel: number): Float64Array<ArrayBuffer> {
  const copy = pixels.slice();
  copy[pixel] = copy[pixel]! >= 0.5 ? 0 : 1;
  return copy;
}

export interface Flip {
  /** The probability of the answer to the untouched image, with this pixel turned. */
  probability: number;
  /** Another answer comes out. */
  turns: boolean;
}

export interface Flips {
  answer: 0 | 1;
  /** Its probability for the untouched image. */
  probability: number;
  /** One for each of the 25 pixels. */
  flips: Flip[];
}

/** The 25 images that differ from this one in a single pixel, and what the network says to them. */
export function flipTest(shape: Shape, parameters: Parameters, pixels: Float64Array<ArrayBuffer>): Flips {
  const scratch = emptyPass(shape);
  forward(shape, parameters, pixels, scratch);
  const said = answer(scratch);
  const probability = scratch.probabilities[said];
  const flips = Array.from(pixels, (_, pixel) => {
    forward(shape, parameters, turned(pixels, pixel), scratch);
    return { probability: scratch.probabilities[said], turns: answer(scratch) !== said };
  });
  return { answer: said, probability, flips };
}

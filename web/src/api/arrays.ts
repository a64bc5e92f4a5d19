// Arrays on the wire: base64 of little-endian bytes.
import type { Maps, Pixels } from "./client";

export function bytes(text: string): Uint8Array<ArrayBuffer> {
  const characters = atob(text);
  // A plain loop: `from` with a function takes many milliseconds for a large layer's maps.
  const values = new Uint8Array(characters.length);
  for (let k = 0; k < values.length; k++) values[k] = characters.charCodeAt(k);
  return values;
}

export function toBase64(values: Uint8Array): string {
  let text = "";
  for (let begin = 0; begin < values.length; begin += 8192) {
    text += String.fromCharCode(...values.subarray(begin, begin + 8192));
  }
  return btoa(text);
}

/** Height x width x channels real numbers, row by row, channels last. */
export interface Numbers {
  height: number;
  width: number;
  channels: number;
  values: Float64Array<ArrayBuffer>;
}

export function numbersOf(maps: Maps): Numbers {
  const { height, width, channels } = maps;
  return { height, width, channels, values: new Float64Array(bytes(maps.values).buffer) };
}

export function mapsOf(numbers: Numbers): Maps {
  const { height, width, channels, values } = numbers;
  return {
    height,
    width,
    channels,
    values: toBase64(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)),
  };
}

/** A decoded image's bytes, 0..255, as real numbers. */
export function numbersOfPixels(pixels: Pixels): Numbers {
  const { height, width, channels } = pixels;
  return { height, width, channels, values: Float64Array.from(bytes(pixels.values)) };
}

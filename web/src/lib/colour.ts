// Colours of numbers: blue negative, red positive, zero the ground; pixels grey.

export type Rgb = readonly [number, number, number];

export interface Palette {
  ground: Rgb;
  ink: Rgb;
  negative: Rgb;
  positive: Rgb;
}

// The same as in styles/tokens.css; a test compares them.
export const PALETTES: Record<"light" | "dark", Palette> = {
  light: { ground: [255, 255, 255], ink: [26, 27, 30], negative: [23, 105, 170], positive: [189, 42, 58] },
  dark: { ground: [19, 20, 22], ink: [237, 237, 239], negative: [98, 176, 240], positive: [244, 115, 127] },
};

/** The colour of `value` on a scale from -`range` to `range`: the ground at zero, full blue or red at the ends. */
export function signed(value: number, range: number, palette: Palette): Rgb {
  const share = range > 0 && Number.isFinite(value) ? Math.min(Math.abs(value) / range, 1) : 0;
  return mix(palette.ground, value < 0 ? palette.negative : palette.positive, share);
}

/** The grey of a pixel 0..1; ink counts from paper (`inverted`, white paper) or light from black. */
export function grey(value: number, inverted = false): Rgb {
  const level = Math.round(255 * Math.min(Math.max(inverted ? 1 - value : value, 0), 1));
  return [level, level, level];
}

export function mix(from: Rgb, to: Rgb, share: number): Rgb {
  return [0, 1, 2].map((k) => Math.round(from[k]! + (to[k]! - from[k]!) * share)) as unknown as Rgb;
}

export function css([red, green, blue]: Rgb): string {
  return `rgb(${red} ${green} ${blue})`;
}

/** Relative luminance, WCAG 2. */
export function luminance(colour: Rgb): number {
  const [red, green, blue] = colour.map((level) => {
    const share = level / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Black or white, whichever is read better on `ground`: the contrast is 4.58 at least. A near-black would fall below 4.5. */
export function inkOn(ground: Rgb): string {
  return luminance(ground) > 0.179 ? "#000000" : "#ffffff";
}

// The loss as shades of grey on the plane, with lines of equal loss.
import { mix, type Palette, type Rgb } from "../../lib/colour";
import { contour, levels, type Extent, type Scale } from "./landscape";
import type { Field } from "./loss_field.svelte";

/** From the ground at the scale's low end towards the ink at its high end, in the logarithm. */
export function shade(value: number, scale: Scale, palette: Palette): Rgb {
  const share = Math.log(Math.max(value, scale.low) / scale.low) / Math.log(scale.high / scale.low);
  return mix(palette.ground, palette.ink, 0.7 * share);
}

function pixelsOf({ values, cells }: Field, scale: Scale, palette: Palette): ImageData {
  const image = new ImageData(cells, cells);
  const span = Math.log(scale.high / scale.low);
  const table = Array.from({ length: 256 }, (_, at) =>
    shade(scale.low * Math.exp((span * at) / 255), scale, palette),
  );
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      const value = values[(cells - 1 - row) * cells + column]!;
      const share = Math.log(value / scale.low) / span;
      const colour = table[Math.round(255 * Math.min(Math.max(share, 0), 1))] ?? table[255]!;
      // one by one: an array for each of nine thousand cells would take longer than all the rest
      const at = 4 * (row * cells + column);
      image.data[at] = colour[0];
      image.data[at + 1] = colour[1];
      image.data[at + 2] = colour[2];
      image.data[at + 3] = 255;
    }
  }
  return image;
}

/** Paint a field on a square of `side` pixels that shows `extent`; the field may belong to a piece shown a moment ago. */
export function paintField(
  context: CanvasRenderingContext2D,
  field: Field,
  { extent, scale, palette, density }: { extent: Extent; scale: Scale; palette: Palette; density: number },
): void {
  const side = context.canvas.width;
  const { values, cells, extent: of } = field;
  const grid = new OffscreenCanvas(cells, cells);
  grid.getContext("2d")!.putImageData(pixelsOf(field, scale, palette), 0, 0);
  const size = (side * of.half) / extent.half;
  const left = (side - size + ((of.a - extent.a) / extent.half) * side) / 2;
  const top = (side - size - ((of.b - extent.b) / extent.half) * side) / 2;
  context.fillStyle = `rgb(${palette.ground.join(" ")})`;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingEnabled = true;
  context.drawImage(grid, left, top, size, size);
  context.strokeStyle = `rgb(${palette.ink.join(" ")} / 40%)`;
  context.lineWidth = density;
  context.beginPath();
  const unit = size / cells;
  for (const level of levels(scale)) {
    const lines = contour(values, cells, level);
    for (let at = 0; at < lines.length; at += 4) {
      context.moveTo(left + lines[at]! * unit, top + size - lines[at + 1]! * unit);
      context.lineTo(left + lines[at + 2]! * unit, top + size - lines[at + 3]! * unit);
    }
  }
  context.stroke();
}

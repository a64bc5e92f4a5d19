import { expect, test } from "vitest";
import { drawn, keepsPicture, prepared, readDrawing, toGrey, writeDrawing } from "./picture";
import { grey } from "./reference";

test("grey is Pillow's grey", () => {
  expect([...toGrey(grey.colours).values]).toEqual(grey.grey);
});

test("numbers up to 1 are those up to 255, divided", () => {
  expect([...prepared(grey.colours, "grey", 1).values]).toEqual(grey.grey.map((value) => value / 255));
  expect(prepared(grey.colours, "red", 255)).toBe(grey.colours);
});

test("a drawing survives its text", () => {
  for (const side of [16, 28]) {
    const ink = Uint8Array.from({ length: side * side }, (_, cell) => ((cell * 7919) % 3) & 1);
    const text = writeDrawing(ink);
    expect(readDrawing(text)).toEqual(ink);
    expect(encodeURIComponent(text.slice(3))).toBe(text.slice(3));
  }
  for (const text of ["", "28:", "28:AAAA", "17:AAAA", "16:***"]) expect(readDrawing(text)).toBeNull();
  expect(drawn(Uint8Array.of(0, 1, 1, 0)).values).toEqual(Float64Array.of(0, 255, 255, 0));
});

test("a blur of a picture is a picture, an edge is none", () => {
  const step = (kernel: number[][]) =>
    ({ kind: "convolve", kernel, border: "none", stride: 1, dilation: 1 }) as const;
  expect(keepsPicture(step([[1 / 3, 1 / 3, 1 / 3]]))).toBe(true);
  expect(keepsPicture(step([[-1, 1]]))).toBe(false);
  expect(keepsPicture(step([[1, 1]]))).toBe(false);
  expect(keepsPicture({ kind: "pool", pool: "sum", size: 2, stride: 2 })).toBe(false);
});

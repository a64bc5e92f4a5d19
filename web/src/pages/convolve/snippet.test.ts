import { expect, test } from "vitest";
import { cases } from "./reference";
import { snippet } from "./snippet";

// The texts are kept as files; tests/studio/test_convolve_reference.py runs them and compares what they print.
test.each(cases)("$name: the script", async ({ name, pixels, full, steps, cell }) => {
  await expect(snippet({ pixels, full, steps, named: [], ...cell })).toMatchFileSnapshot(
    `./snippets/${name}.txt`,
  );
});

test("a large image is loaded from a file", () => {
  const pixels = { height: 48, width: 64, channels: 3, values: new Float64Array(48 * 64 * 3) };
  const text = snippet({ pixels, full: 255, steps: [{ kind: "relu" }], named: [], y: 1, x: 2, channel: 0 });
  expect(text).toContain('Image.open("image.png").convert("RGB").resize((64, 48))');
  expect(text).toContain("maps[0, 0, 1, 2]");
});

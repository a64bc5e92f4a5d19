import { expect, test } from "vitest";
import { Sheet } from "./sheet.svelte";

function drawn(): Sheet {
  const sheet = new Sheet();
  for (const x of [0.1, 0.5]) {
    sheet.begin(x, 0, 0);
    sheet.extend([x + 0.1, 0.1, x + 0.2, 0.2], 1);
    sheet.end(2);
  }
  return sheet;
}

test("strokes are undone and redone one by one, a new stroke drops what lay ahead", () => {
  const sheet = drawn();
  const both = sheet.strokes;
  expect(both.map((stroke) => stroke.points.length)).toEqual([6, 6]);
  sheet.undo(3);
  expect(sheet.strokes).toEqual([both[0]]);
  sheet.redo(4);
  expect(sheet.strokes).toBe(both);
  sheet.undo(5);
  sheet.begin(0.9, 0.9, 6);
  sheet.end(7);
  expect(sheet.strokes.map((stroke) => stroke.points[0])).toEqual([0.1, 0.9]);
  expect(sheet.canRedo).toBe(false);
});

test("a reset can be undone, a renewed sheet cannot", () => {
  const sheet = drawn();
  sheet.reset(3);
  expect(sheet.empty).toBe(true);
  sheet.undo(4);
  expect(sheet.strokes.length).toBe(2);
  sheet.renew(5);
  expect(sheet.empty).toBe(true);
  expect(sheet.canUndo).toBe(false);
});

test("a cancelled stroke leaves nothing, and undo during a stroke takes back only that", () => {
  const sheet = drawn();
  sheet.begin(0, 0, 3);
  sheet.cancel(4);
  sheet.begin(0, 0, 5);
  sheet.undo(6);
  expect(sheet.live).toBeNull();
  expect(sheet.strokes.length).toBe(2);
});

test("listeners hear every change, during and after a stroke", () => {
  const heard: string[] = [];
  const sheet = new Sheet((when, at) => heard.push(`${when} ${at}`));
  sheet.begin(0, 0, 1);
  sheet.extend([0, 0.0001], 2);
  sheet.extend([0, 0.5], 3);
  sheet.end(4);
  sheet.end(5);
  sheet.undo(6);
  sheet.undo(7);
  expect(heard).toEqual(["during 1", "during 3", "after 4", "after 6"]);
});

import { expect, test } from "vitest";
import { groupsOf, neighbour } from "./groups";
import { layout } from "./layout";

const drawn = layout({ filters: 2, inARow: false }, false);
const groups = groupsOf(drawn);

test("every number of the figure is in one group", () => {
  const places = groups.flatMap((group) => group.places);
  expect(new Set(places).size).toBe(places.length);
  expect([...drawn.boxes.keys()].filter((place) => !places.includes(place))).toEqual([]);
});

test("arrow keys move inside a group and stop at its edge", () => {
  const filter = groups.find(({ places }) => places.includes("filter:1:4"))!;
  const moved = ["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End", "a"];
  expect(moved.map((key) => neighbour(filter, "filter:1:4", key))).toEqual([
    "filter:1:5",
    "filter:1:3",
    "filter:1:1",
    "filter:1:7",
    "filter:1:0",
    "filter:1:8",
    null,
  ]);
  expect(neighbour(filter, "filter:1:0", "ArrowUp")).toBeNull();
  expect(neighbour(filter, "filter:1:8", "ArrowRight")).toBeNull();
});

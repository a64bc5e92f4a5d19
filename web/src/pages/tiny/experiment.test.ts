import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { address } from "../../lib/address.svelte";
import { Experiment } from "./experiment.svelte";
import sets from "./sets.json";
import type { Picture } from "./types";

const CLASSES: Record<string, string[]> = {
  lines: ["horizontal", "vertical"],
  shapes: ["cross", "square"],
  fruits: ["apple", "banana"],
};
let asked: string[] = [];
let answers = true;

/** The server: the sets of seed 0, whatever the seed. */
function server(path: string): Promise<Response> {
  asked.push(path);
  if (!answers) return Promise.reject(new TypeError("no server"));
  const name = /tiny\/(\w+)/.exec(path)![1]!;
  const set = sets.find((each) => each.name === name)!;
  const images = (part: typeof set.train) =>
    part.map(({ label, pixels }) => ({ label, pixels: pixels.map((value) => value / 255) }));
  const body = { name, classes: CLASSES[name]!, train: images(set.train), test: images(set.test) };
  return Promise.resolve(new Response(JSON.stringify(body)));
}

async function loaded(view: Record<string, string> = {}): Promise<Experiment> {
  address.set(view);
  const experiment = new Experiment();
  experiment.load(new AbortController().signal);
  await experiment.ready();
  return experiment;
}

beforeEach(() => {
  asked = [];
  answers = true;
  vi.stubGlobal("fetch", server);
  vi.stubGlobal("history", { replaceState: () => undefined });
  address.set({ set: null, seed: null, start: null, filters: null, tab: null });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("the images of the address are fetched, and a network begins with them", async () => {
  const experiment = await loaded({ set: "shapes", seed: "3", filters: "2" });
  expect(asked).toEqual(["/api/tiny/shapes?seed=3"]);
  expect(experiment.classes).toEqual(["cross", "square"]);
  expect([experiment.train.length, experiment.test.length]).toEqual([40, 20]);
  expect(experiment.parameters).toHaveLength(36);
  expect(experiment.moment).toMatchObject({ epoch: 0, step: 0 });
  expect([experiment.shown, experiment.progress, experiment.trouble]).toEqual([null, "idle", null]);
});

test("nonsense in the address is the first view", async () => {
  const experiment = await loaded({ set: "cars", seed: "-1", filters: "9", tab: "none" });
  expect([experiment.set, experiment.seed, experiment.arrangement, experiment.tab]).toEqual([
    "lines",
    0,
    "1",
    "train",
  ]);
});

test("a server that does not answer is a sentence, and the next try takes it away", async () => {
  answers = false;
  const experiment = await loaded();
  expect(experiment.trouble).toMatch(/does not answer/);
  expect(experiment.training).toBeNull();
  answers = true;
  experiment.load(new AbortController().signal);
  await experiment.ready();
  expect(experiment.trouble).toBeNull();
  expect(experiment.training).not.toBeNull();
});

test("a set pressed again is another seed, another set keeps it", async () => {
  const experiment = await loaded();
  experiment.choose("lines");
  expect([experiment.set, experiment.seed]).toEqual(["lines", 1]);
  experiment.choose("fruits");
  expect([experiment.set, experiment.seed]).toEqual(["fruits", 1]);
});

test("training goes on frame by frame, can be paused, and ends when the error is small", async () => {
  const experiment = await loaded();
  experiment.pace = 1;
  experiment.go();
  expect(experiment.progress).toBe("going");
  experiment.work(16);
  experiment.pause();
  expect(experiment.progress).toBe("idle");
  const { epoch } = experiment.moment!;
  experiment.work(16);
  expect(experiment.moment!.epoch).toBe(epoch);
  experiment.go();
  for (let frame = 0; frame < 10_000 && experiment.progress === "going"; frame++) experiment.work(16);
  expect(experiment.progress).toBe("small");
  expect(experiment.moment!.loss).toBeLessThan(0.05);
  expect(experiment.wrongTrain.filter(Boolean)).toEqual([]);
});

test("a pace does so many epochs, and a limit ends them", async () => {
  const experiment = await loaded();
  experiment.untilSmall = false;
  experiment.pace = 0; // two epochs a second at first, and one at once
  experiment.go(3);
  const epochs = [];
  for (let frame = 0; frame < 4; frame++) {
    experiment.work(400);
    epochs.push(experiment.moment!.epoch);
  }
  expect(epochs[0]).toBe(1);
  expect(epochs.at(-1)).toBe(3);
  expect(experiment.progress).toBe("limit");
});

test("too large a learning rate ends as broken", async () => {
  const experiment = await loaded({ start: "6" });
  experiment.rate = 1;
  experiment.pace = 1;
  experiment.untilSmall = false;
  experiment.go();
  for (let frame = 0; frame < 10_000 && experiment.progress === "going"; frame++) experiment.work(16);
  expect(experiment.progress).toBe("broken");
});

test("steps, epochs and the time machine move the moment; a change of a number drops what was ahead", async () => {
  const experiment = await loaded();
  const start = experiment.parameters!.slice();
  experiment.oneStep();
  expect(experiment.moment).toMatchObject({ epoch: 0, step: 1 });
  experiment.oneEpoch();
  experiment.oneEpoch();
  expect(experiment.moment).toMatchObject({ epoch: 2, step: 0 });
  experiment.scrub(0);
  expect(experiment.parameters).toEqual(start);
  experiment.change("filter:0:4", 0.25);
  expect(experiment.number("filter:0:4")).toBe(0.25);
  expect(experiment.training!.length).toBe(1);
  experiment.change("bias:0", 1e9);
  expect(experiment.number("bias:0")).toBe(999);
});

test("an image that is shown is calculated; a changed pixel makes it one of somebody's own", async () => {
  const experiment = await loaded();
  expect(experiment.number("score:0")).toBeNull();
  experiment.show("test", 2);
  const score = experiment.number("score:0")!;
  expect(score).toEqual(expect.any(Number));
  experiment.change("pixel:12", 7);
  expect(experiment.shown).toMatchObject({ part: "hand", index: -1 });
  expect(experiment.shown!.picture.pixels[12]).toBe(1);
  expect(experiment.test[2]!.pixels).not.toEqual(experiment.shown!.picture.pixels);
  experiment.hide();
  expect([experiment.shown, experiment.pass]).toEqual([null, null]);
});

test("escape frees what is pinned before it hides the image", async () => {
  const experiment = await loaded();
  experiment.show("test", 0);
  experiment.hovered = "score:0";
  experiment.pinned = "map:0:4";
  expect(experiment.sum).toMatchObject({ place: "map:0:4", result: experiment.number("map:0:4") });
  experiment.escape();
  expect([experiment.pinned, experiment.looked]).toEqual([null, "score:0"]);
  expect(experiment.shown).not.toBeNull();
  experiment.escape();
  expect(experiment.shown).toBeNull();
});

test("a panel that speaks of an image has one; its moments hide what is not calculated yet", async () => {
  const experiment = await loaded();
  experiment.open("animation");
  expect(experiment.shown).toMatchObject({ part: "test", index: 0 });
  expect(experiment.frames).toHaveLength(16);
  expect(experiment.known!.has("map:0:0")).toBe(true);
  expect(experiment.known!.has("map:0:1")).toBe(false);
  experiment.hovered = "map:0:1";
  expect(experiment.sum).toBeNull();
  experiment.position = 15;
  expect(experiment.known!.has("probability:1")).toBe(true);
  experiment.open("train");
  expect([experiment.frames, experiment.known, experiment.position]).toEqual([[], null, 0]);
});

test("an opened training step that is applied moves every number against its gradient", async () => {
  const experiment = await loaded();
  experiment.open("step");
  expect(experiment.shown).toMatchObject({ part: "train", index: 0 });
  const before = experiment.parameters!.slice();
  const updates = experiment.frames.flatMap((frame) => (frame.kind === "update" ? frame.sums : []));
  experiment.applyStep();
  expect(updates).toHaveLength(19);
  for (const { place, result } of updates) expect(experiment.number(place.replace("new:", ""))).toBe(result);
  expect(experiment.parameters).not.toEqual(before);
  expect(experiment.position).toBe(0);
});

test("the animation walks to a frame, and stops where another panel is opened", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const experiment = await loaded();
  experiment.playTo(4, 100);
  vi.advanceTimersByTime(250);
  expect([experiment.tab, experiment.position]).toEqual(["animation", 2]);
  vi.advanceTimersByTime(1000);
  expect(experiment.position).toBe(4);
  experiment.playTo(8, 100);
  experiment.open("train");
  vi.advanceTimersByTime(1000);
  expect(experiment.position).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

test("a picture of one's own is learned from, and the same start begins again with it", async () => {
  const experiment = await loaded();
  const own: Picture = { pixels: new Float64Array(25).fill(1), label: 1 };
  experiment.oneEpoch();
  experiment.addPicture(own);
  expect(experiment.train).toHaveLength(41);
  experiment.begin();
  expect(experiment.moment).toMatchObject({ epoch: 0, step: 0 });
  experiment.reset();
  expect(experiment.start).toBe(1);
});

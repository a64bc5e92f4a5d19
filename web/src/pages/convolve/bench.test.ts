import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { mapsOf } from "../../api/arrays";
import type { ChainResult, Step } from "../../api/client";
import { address } from "../../lib/address.svelte";
import { Bench } from "./bench.svelte";
import examples from "./examples.json";
import { cases } from "./reference";

const plain = cases.find(({ name }) => name === "plain")!;
const LETTERS = { height: 2, width: 2, channels: 1, values: btoa("\x01\x02\x03\x04"), notes: ["a note"] };

type Answer = (path: string, body: string) => unknown;
let asked: string[] = [];
let answer: Answer;

/** The server: what the package made of `plain`, in the order asked; a step at a time, as long as it has results. */
const serving: Answer = (path, body) => {
  if (path === "/api/samples") return [{ id: "numbers" }, { id: "photograph" }];
  if (path === "/api/kernels") return [{ name: "sobel_x", rows: [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]] }]; // prettier-ignore
  if (path === "/api/convolve") {
    const { steps } = JSON.parse(body) as { steps: Step[] };
    const maps = mapsOf(plain.results[0]!);
    return { steps: steps.map(() => ({ maps, size_text: ["4"] })), refusal: null } as unknown as ChainResult;
  }
  if (path.startsWith("/api/samples/numbers")) {
    const { height, width, channels, values } = plain.pixels;
    return { height, width, channels, values: btoa(String.fromCharCode(...values)), notes: [] };
  }
  return LETTERS;
};

function refusing(status: number, message: string): Answer {
  return () => new Response(JSON.stringify({ code: "no", message, hint: "Try less." }), { status });
}

beforeEach(() => {
  asked = [];
  answer = serving;
  vi.stubGlobal("fetch", async (path: string, { body, signal }: { body: unknown; signal?: AbortSignal }) => {
    asked.push(path);
    const given = answer(path, String(body));
    await Promise.resolve();
    signal?.throwIfAborted();
    return given instanceof Response ? given : new Response(JSON.stringify(given));
  });
  vi.stubGlobal("history", { replaceState: () => undefined });
  address.set({ sample: null, drawing: null, side: null, steps: null, view: null, full: null, cell: null });
});
afterEach(() => vi.unstubAllGlobals());

/** A bench with the image `numbers` and a Sobel step, and its result. */
async function prepared(cell: string | null = null): Promise<Bench> {
  address.set({ sample: "numbers", steps: "conv:sobel_x", cell });
  const bench = new Bench();
  await bench.prepare();
  bench.read();
  await vi.waitUntil(() => bench.source !== null);
  await renewed(bench);
  return bench;
}

async function renewed(bench: Bench): Promise<void> {
  bench.renew();
  await vi.waitUntil(() => !bench.renewing);
}

test("the view of the address is fetched and convolved", async () => {
  const bench = await prepared("0,2,1");
  expect(asked).toEqual(["/api/samples", "/api/kernels", "/api/samples/numbers?side=64", "/api/convolve"]);
  expect(bench.stage!.output).toEqual(plain.results[0]);
  expect([bench.at, bench.pinned]).toEqual([{ y: 2, x: 1 }, true]);
  expect(bench.reckoning!.result).toBe(plain.results[0]!.values[2 * 4 + 1]);
});

test("nonsense in the address is the first view", async () => {
  address.set({ sample: "../etc", steps: "conv:1,2/3", side: "7", view: "infrared", full: "2", cell: "9" });
  const bench = new Bench();
  await bench.prepare();
  bench.read();
  await vi.waitUntil(() => bench.source !== null);
  expect(bench.source).toEqual({ kind: "sample", id: "photograph" });
  expect(bench.steps.map(({ kind }) => kind)).toEqual(["convolve", "relu", "pool"]);
  expect([bench.side, bench.view, bench.full, bench.pinned]).toEqual([64, "grey", 255, false]);
});

test("steps are added, changed, moved and removed; the selected one goes with them", async () => {
  const bench = await prepared();
  bench.add({ kind: "relu" });
  bench.add({ kind: "pool", pool: "max", size: 2, stride: 2 });
  expect(bench.selected).toBe(2);
  bench.move(-1);
  expect([bench.steps.map(({ kind }) => kind), bench.selected]).toEqual([["convolve", "pool", "relu"], 1]);
  bench.change({ kind: "pool", pool: "sum", size: 3, stride: 1 });
  expect(bench.steps[1]).toMatchObject({ pool: "sum" });
  bench.remove();
  bench.select(1);
  bench.move(1); // there is nothing behind it
  expect([bench.steps.map(({ kind }) => kind), bench.selected]).toEqual([["convolve", "relu"], 1]);
  bench.remove();
  bench.remove();
  bench.remove();
  expect([bench.steps, bench.selected]).toEqual([[], 0]);
  for (let count = 0; count < 12; count++) bench.add({ kind: "relu" });
  expect(bench.steps).toHaveLength(8);
});

test("the window follows the pointer until it is pinned, and again once it is freed", async () => {
  const bench = await prepared();
  bench.hover("output", { y: 3, x: 2 });
  expect([bench.at, bench.pinned]).toEqual([{ y: 3, x: 2 }, false]);
  bench.hover("input", { y: 0, x: 0 });
  expect(bench.at).toEqual({ y: 0, x: 0 });
  bench.press("output", { y: 1, x: 1 });
  bench.hover("output", { y: 3, x: 3 });
  expect([bench.at, bench.pinned, bench.spot]).toEqual([
    { y: 1, x: 1 },
    true,
    { part: "output", y: 3, x: 3 },
  ]);
  bench.press("output", { y: 1, x: 1 });
  expect(bench.pinned).toBe(false);
  bench.hold(99, -5);
  expect([bench.at, bench.pinned]).toEqual([{ y: 3, x: 0 }, true]);
  bench.free();
  expect([bench.pinned, bench.playing, bench.spot]).toEqual([false, false, null]);
});

test("without steps the image is all there is, and the server is not asked", async () => {
  const bench = await prepared();
  asked = [];
  bench.remove();
  await renewed(bench);
  expect(asked).toEqual([]);
  expect([bench.shown!.results, bench.stage, bench.reckoning]).toEqual([[], null, null]);
});

test("of several changes the newest is asked for last, and one at a time", async () => {
  const bench = await prepared();
  asked = [];
  bench.renew();
  for (const full of [1, 255, 1] as const) {
    bench.full = full;
    bench.renew();
  }
  await vi.waitUntil(() => !bench.renewing);
  expect(asked).toEqual(["/api/convolve", "/api/convolve"]);
  expect(bench.shown!.full).toBe(1);
});

test("a refused image leaves everything as it is and says why", async () => {
  const bench = await prepared();
  const before = [bench.source, bench.pixels, bench.steps];
  answer = refusing(413, "The image is too large.");
  await bench.open({ kind: "file", file: new Blob(["x"]) });
  expect([bench.source, bench.pixels, bench.steps]).toEqual(before);
  expect(bench.problem).toEqual({ message: "The image is too large.", hint: "Try less.", passing: false });
  answer = serving;
  await bench.open({ kind: "file", file: new Blob(["x"]) });
  expect([bench.problem, bench.notes]).toEqual([null, ["a note"]]);
});

test("a server that is gone is a passing problem, and is asked again", async () => {
  const bench = await prepared();
  const { shown } = bench;
  answer = () => {
    throw new TypeError("no server");
  };
  await renewed(bench);
  expect(bench.problem).toMatchObject({ passing: true });
  expect(bench.shown).toBe(shown);
  answer = serving;
  bench.again();
  await renewed(bench);
  expect(bench.problem).toBeNull();
});

test("the later of two images wins, whichever comes first", async () => {
  const bench = await prepared();
  const first = bench.open({ kind: "sample", id: "photograph" });
  const second = bench.open({ kind: "sample", id: "numbers" });
  await Promise.all([first, second]);
  expect(bench.source).toEqual({ kind: "sample", id: "numbers" });
  expect(bench.problem).toBeNull();
});

test("a worked example brings its image, its steps and its cell", async () => {
  const bench = await prepared();
  const example = examples.find(({ id }) => id === "worked-convolution")! as Parameters<Bench["show"]>[0];
  bench.full = 1;
  bench.show(example);
  await vi.waitUntil(() => bench.pinned);
  expect(bench.steps).toEqual(example.steps);
  expect([bench.full, bench.place]).toEqual([255, { y: example.cell.y, x: example.cell.x }]);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { PadModel, PadModels } from "../../api/client";
import { Live } from "./live.svelte";

// The browser's websocket, as far as the page uses it; the tests are its server.
class Socket {
  static all: Socket[] = [];
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  closed = false;
  constructor(readonly url: string) {
    Socket.all.push(this);
  }
  close(): void {
    this.closed = true;
    this.onclose?.();
  }
  say(message: PadModels): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

const model = (epoch: number, state: PadModel["state"] = "making"): PadModel => ({
  id: "twenty",
  title: "twenty",
  ready_made: true,
  classes: ["apple", "banana"],
  state,
  epoch,
  epochs: 40,
  test_accuracy: null,
});
const models = (epoch: number): PadModels => ({ kind: "models", models: [model(epoch)], unreadable: [] });

beforeEach(() => {
  vi.useFakeTimers();
  Socket.all = [];
  vi.stubGlobal("WebSocket", Socket);
  vi.stubGlobal("location", { protocol: "http:", host: "127.0.0.1:8000" });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("it follows what the server tells, and says how long a making will take", async () => {
  const live = new Live();
  const stop = live.start();
  expect(Socket.all.map((socket) => socket.url)).toEqual(["ws://127.0.0.1:8000/api/live"]);
  Socket.all[0]!.say(models(0));
  expect(live.models[0]!.epoch).toBe(0);
  expect(live.left.size).toBe(0);
  await vi.advanceTimersByTimeAsync(2000);
  Socket.all[0]!.say({ ...models(10), unreadable: ["locked"] });
  expect(live.unreadable).toEqual(["locked"]);
  expect(live.left.get("twenty")).toBeCloseTo(6, 1);
  stop();
  expect(Socket.all[0]!.closed).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(Socket.all.length).toBe(1);
});

test("without a websocket it asks instead, and tries again after longer and longer waits", async () => {
  const fetching = vi.fn(() => Promise.resolve(new Response(JSON.stringify(models(7)))));
  vi.stubGlobal("fetch", fetching);
  const live = new Live();
  const stop = live.start();
  const waits: number[] = [];
  for (let attempt = 0; attempt < 6; attempt++) {
    Socket.all.at(-1)!.close();
    const before = Date.now();
    while (Socket.all.length === attempt + 1) await vi.advanceTimersByTimeAsync(100);
    waits.push(Date.now() - before);
  }
  expect(waits).toEqual([500, 1000, 2000, 4000, 5000, 5000]);
  expect(fetching).toHaveBeenCalledTimes(6);
  expect(live.models[0]!.epoch).toBe(7);
  stop();
});

test("a server that is away is reported, and forgotten as soon as it is back", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  const live = new Live();
  const stop = live.start();
  Socket.all[0]!.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(live.trouble?.code).toBe("no-answer");
  await vi.advanceTimersByTimeAsync(500);
  Socket.all[1]!.say(models(3));
  expect(live.trouble).toBeNull();
  expect(live.models[0]!.epoch).toBe(3);
  stop();
});

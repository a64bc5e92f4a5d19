import { expect, test } from "vitest";
import {
  ROUNDS,
  ROUND_MS,
  ENDED_MS,
  begin,
  left,
  playable,
  see,
  start,
  tick,
  turn,
  word,
  type Game,
} from "./game";
import type { Drawing } from "./strokes";

const CLASSES = Array.from({ length: 20 }, (_, k) => `word ${k}`);
const DRAWING: Drawing = [{ tool: "pen", points: [0.5, 0.5] }];

// A small generator, so that a failing game can be played again.
function chance(seed: number): () => number {
  return () => (seed = (seed * 16807) % 2147483647) / 2147483647;
}

const best = (name: string, probability: number) => [
  { name, probability },
  { name: "rest", probability: 1 - probability },
];

test("six different words of the network's, in an order of chance", () => {
  const orders = new Set<string>();
  for (let seed = 1; seed <= 50; seed++) {
    const { words } = begin(CLASSES, chance(seed), 0);
    expect(words.length).toBe(ROUNDS);
    expect(new Set(words).size).toBe(ROUNDS);
    expect(words.every((each) => CLASSES.includes(each))).toBe(true);
    orders.add(words.join());
  }
  expect(orders.size).toBeGreaterThan(45);
  expect(playable(["apple", "banana"])).toBe(false);
  expect(playable(CLASSES)).toBe(true);
});

test("the time runs from the start, not from the announcement", () => {
  const announced = begin(CLASSES, chance(1), 0);
  expect(left(announced, 99_000)).toBe(ROUND_MS);
  expect(tick(announced, 99_000, [])).toBe(announced);
  const drawing = start(announced, 100_000);
  expect(left(drawing, 105_000)).toBe(ROUND_MS - 5_000);
  expect(start(drawing, 106_000)).toBe(drawing);
});

test("a word is recognised when it is the best answer with at least a half", () => {
  const game = start(begin(CLASSES, chance(2), 0), 0);
  const wanted = word(game);
  expect(see(game, best(wanted, 0.49), 1000, 1010, DRAWING).phase).toBe("drawing");
  const known = see(game, best(wanted, 0.5), 3000, 3010, DRAWING);
  expect(known.phase).toBe("ended");
  expect(known.rounds).toEqual([{ word: wanted, drawing: DRAWING, ms: 3010, taken: wanted }]);
  expect(word(known)).toBe(wanted);
  const next = tick(known, 3010 + ENDED_MS, DRAWING);
  expect(next.phase).toBe("announced");
  expect(word(next)).not.toBe(wanted);
  expect(turn(next)).toBe(2);
});

test("when the time is over the last guess is what it was taken for", () => {
  let game = start(begin(CLASSES, chance(3), 0), 0);
  game = see(game, best("a snake", 0.9), 1000, 1010, DRAWING);
  game = see(game, best("a wheel", 0.1), 2000, 2010, DRAWING);
  expect(tick(game, ROUND_MS - 1, DRAWING)).toBe(game);
  game = tick(game, ROUND_MS, DRAWING);
  expect(game.rounds).toEqual([{ word: game.words[0], drawing: DRAWING, ms: null, taken: "a wheel" }]);
});

test("an answer after the time, or to an earlier drawing, counts for nothing", () => {
  const game = start(begin(CLASSES, chance(4), 0), 5000);
  expect(see(game, best(word(game), 1), 4999, 5010, DRAWING)).toBe(game);
  const late = see(game, best(word(game), 1), 24_000, 5000 + ROUND_MS, DRAWING);
  expect(late.rounds[0]!.ms).toBeNull();
});

test("nothing drawn is taken for nothing", () => {
  let game = start(begin(CLASSES, chance(5), 0), 0);
  game = see(game, best("a fish", 0.9), 1000, 1010, DRAWING);
  game = see(game, [], 2000, 2010, []);
  expect(tick(game, ROUND_MS, []).rounds[0]!.taken).toBeNull();
});

test("guesses are called out as they change, each once, not too fast, and not when they mean little", () => {
  let game = start(begin(CLASSES, chance(6), 0), 0);
  for (const [name, probability, at] of [
    ["a wheel", 0.6, 1000],
    ["a wheel", 0.7, 2500],
    ["a snake", 0.6, 2600],
    ["a fish", 0.6, 2900],
    ["a cat", 0.1, 4500],
    ["a wheel", 0.7, 6000],
    ["a fish", 0.2, 7500],
  ] as const) {
    game = see(game, best(name, probability), at - 5, at, DRAWING);
  }
  expect(game.calls).toEqual(["a wheel", "a snake", "a fish"]);
});

test("after six words the game is over, with six drawings", () => {
  let game: Game = begin(CLASSES, chance(7), 0);
  let now = 0;
  for (let round = 0; round < ROUNDS; round++) {
    expect(turn(game)).toBe(round + 1);
    game = start(game, now);
    now += round % 2 ? ROUND_MS : 4000;
    game = round % 2 ? tick(game, now, DRAWING) : see(game, best(word(game), 0.8), now - 9, now, DRAWING);
    expect(game.phase).toBe("ended");
    now += ENDED_MS;
    game = tick(game, now, DRAWING);
  }
  expect(game.phase).toBe("over");
  expect(game.rounds.map((round) => round.ms)).toEqual([4000, null, 4000, null, 4000, null]);
  expect(game.rounds.map((round) => round.word)).toEqual(game.words);
  expect(tick(game, now + 1e6, DRAWING)).toBe(game);
});

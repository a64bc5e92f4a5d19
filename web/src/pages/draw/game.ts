// The game's rules: six words, twenty seconds each. Nothing here knows a clock or a page: every function is given the moment.
import type { Guess } from "../../api/client";
import type { Drawing } from "./strokes";

export const ROUNDS = 6;
export const ROUND_MS = 20_000;
/** A word is recognised if it is the best answer with at least this probability. */
export const SURE = 0.5;
/** How long a round's end stays on the page before the next word. */
export const ENDED_MS = 2_500;

// A guess is called out if it is at least so likely, and the last call is at least so long ago.
const WORTH_SAYING = 0.15;
const BETWEEN_CALLS_MS = 900;

export interface Round {
  word: string;
  drawing: Drawing;
  /** Milliseconds until it was recognised; null if it was not. */
  ms: number | null;
  /** What it was taken for at the end; null if nothing was drawn. */
  taken: string | null;
}

export interface Game {
  /** `announced`: the word is shown, the time has not begun; `ended`: how the round ended is shown. */
  phase: "announced" | "drawing" | "ended" | "over";
  words: readonly string[];
  /** Rounds that have ended. */
  rounds: readonly Round[];
  /** When the phase began, in milliseconds. */
  since: number;
  /** What the network called out in this round, one after the other, each once, without the word itself. */
  calls: readonly string[];
  calledAt: number;
  /** The latest best answer of this round. */
  best: string | null;
}

/** A new game with words from a network's classes, none twice. `random` gives numbers 0 <= x < 1. */
export function begin(classes: readonly string[], random: () => number, now: number): Game {
  const left = [...classes];
  const words: string[] = [];
  while (words.length < ROUNDS && left.length > 0) {
    words.push(...left.splice(Math.floor(random() * left.length), 1));
  }
  return { phase: "announced", words, rounds: [], since: now, calls: [], calledAt: -Infinity, best: null };
}

/** Whether a network knows enough words. */
export function playable(classes: readonly string[]): boolean {
  return classes.length >= ROUNDS;
}

/** The word to be drawn, or the one that was drawn last. */
export function word(game: Game): string {
  const ended = game.phase === "ended" || game.phase === "over";
  return game.words[game.rounds.length - (ended ? 1 : 0)]!;
}

/** Number of the word, from 1. */
export function turn(game: Game): number {
  return game.words.indexOf(word(game)) + 1;
}

/** The time of an announced word begins. */
export function start(game: Game, now: number): Game {
  if (game.phase !== "announced") return game;
  return { ...game, phase: "drawing", since: now, calls: [], calledAt: -Infinity, best: null };
}

/** Milliseconds that are left for the word. */
export function left(game: Game, now: number): number {
  if (game.phase === "announced") return ROUND_MS;
  if (game.phase !== "drawing") return 0;
  return Math.min(Math.max(ROUND_MS - (now - game.since), 0), ROUND_MS);
}

/**
 * The network has answered, most likely class first.
 * @param asked - when the drawing was sent: an answer to an earlier round's drawing counts for nothing.
 */
export function see(
  game: Game,
  answers: Guess["answers"],
  asked: number,
  now: number,
  drawing: Drawing,
): Game {
  if (game.phase !== "drawing" || asked < game.since) return game;
  if (left(game, now) === 0) return tick(game, now, drawing);
  const first = answers[0];
  if (!first) return { ...game, best: null };
  const seen = { ...game, best: first.name };
  if (first.name === word(game)) {
    return first.probability >= SURE ? ended(seen, now, drawing, now - game.since) : seen;
  }
  const due = now - game.calledAt >= BETWEEN_CALLS_MS && first.probability >= WORTH_SAYING;
  if (!due || game.calls.includes(first.name)) return seen;
  return { ...seen, calls: [...game.calls, first.name], calledAt: now };
}

/** Time has passed. */
export function tick(game: Game, now: number, drawing: Drawing): Game {
  if (game.phase === "drawing" && left(game, now) === 0) return ended(game, now, drawing, null);
  if (game.phase !== "ended" || now - game.since < ENDED_MS) return game;
  return { ...game, phase: game.rounds.length < game.words.length ? "announced" : "over", since: now };
}

function ended(game: Game, now: number, drawing: Drawing, ms: number | null): Game {
  const round = { word: word(game), drawing, ms, taken: game.best };
  return { ...game, phase: "ended", rounds: [...game.rounds, round], since: now };
}

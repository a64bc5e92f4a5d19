// A game that is being played: the rules of game.ts, with the page's clock and the browser's voice.
import * as rules from "./game";
import type { Seen } from "./guesser.svelte";
import type { Sheet } from "./sheet.svelte";

const TICK_MS = 100;

export class Play {
  game = $state.raw<rules.Game>();
  left = $state(rules.ROUND_MS);
  readonly seconds = $derived(Math.ceil(this.left / 1000));
  readonly #sheet: Sheet;
  readonly #called: (name: string, known: boolean) => void;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param called - the network calls out what it sees; `known`: it is the word. */
  constructor(sheet: Sheet, called: (name: string, known: boolean) => void) {
    this.#sheet = sheet;
    this.#called = called;
  }

  begin(classes: readonly string[]): void {
    this.end();
    this.#sheet.renew(performance.now());
    this.game = rules.begin(classes, Math.random, performance.now());
    this.left = rules.ROUND_MS;
    this.#timer = setInterval(() => this.#step((game, now) => rules.tick(game, now, this.#drawn())), TICK_MS);
  }

  /** The word's time begins. */
  start(): void {
    this.#sheet.renew(performance.now());
    this.#step(rules.start);
  }

  see(seen: Seen): void {
    this.#step((game, now) => rules.see(game, seen.answers, seen.asked, now, this.#drawn()));
  }

  end(): void {
    clearInterval(this.#timer);
    this.game = undefined;
  }

  // The stroke that is being drawn when a word is recognised belongs to the drawing.
  #drawn(): Sheet["strokes"] {
    const { strokes, live } = this.#sheet;
    return live ? [...strokes, { tool: live.tool, points: [...live.points] }] : strokes;
  }

  #step(change: (game: rules.Game, now: number) => rules.Game): void {
    const before = this.game;
    if (!before) return;
    const now = performance.now();
    const after = change(before, now);
    this.left = rules.left(after, now);
    if (after === before) return;
    this.game = after;
    if (after.calls.length > before.calls.length) this.#called(after.calls.at(-1)!, false);
    if (after.rounds.length > before.rounds.length) {
      const { word, ms } = after.rounds.at(-1)!;
      if (ms !== null) this.#called(word, true);
    }
    if (after.phase === "announced" && before.phase === "ended") this.#sheet.renew(now);
  }
}

// Asks a network what it sees, again and again while somebody draws: never twice at a time, and always of the newest drawing.
import { tick } from "svelte";
import { numbersOf, numbersOfPixels, type Numbers } from "../../api/arrays";
import { ask, Refused, type Guess } from "../../api/client";
import { Newest } from "./newest";

/** Height and width of the drawing that the server is sent. */
export const SENT_SIDE = 256;

/** An answer, unpacked. */
export interface Seen {
  model: string;
  /** When the drawing was sent, on the clock of `performance.now()`. */
  asked: number;
  /** The stroke was not finished yet. */
  during: boolean;
  blank: boolean;
  /** What the network received, 0..255. */
  input: Numbers;
  answers: Guess["answers"];
  /** Whether it is probably one of the classes; null where the network cannot tell. */
  known: boolean | null;
  layers: readonly SeenLayer[];
}

export interface SeenLayer {
  name: string;
  numbers: Numbers;
  /** The largest distance from zero in all maps of the layer. */
  range: number;
}

interface Question {
  model: string;
  during: boolean;
  /** When the drawing changed. */
  changed: number;
}

export class Guesser {
  seen = $state.raw<Seen | null>(null);
  /** Why the last question has no answer. */
  trouble = $state.raw<Refused | null>(null);
  readonly #ink: () => Uint8Array<ArrayBuffer>;
  readonly #answered: (seen: Seen) => void;
  readonly #newest = new Newest<Question>((question) => this.#answer(question));
  #model = "";

  /** @param ink - the drawing as it is now, `SENT_SIDE` squared bytes: 0 paper, 255 ink. */
  constructor(ink: () => Uint8Array<ArrayBuffer>, answered: (seen: Seen) => void) {
    this.#ink = ink;
    this.#answered = answered;
  }

  ask(question: Question): void {
    this.#use(question.model);
    this.#newest.offer(question);
  }

  /** What another network said is forgotten. */
  #use(model: string): void {
    if (model === this.#model) return;
    this.#model = model;
    this.seen = this.trouble = null;
  }

  async #answer({ model, during, changed }: Question): Promise<void> {
    const asked = performance.now();
    try {
      const path = `/api/draw/guess?model=${encodeURIComponent(model)}`;
      const guess = await ask<Guess>(path, { bytes: this.#ink() });
      if (model !== this.#model) return;
      this.seen = unpacked(guess, model, asked, during);
      this.trouble = null;
      this.#answered(this.seen);
      if (!during) void measured(changed);
    } catch (fault) {
      if (!(fault instanceof Refused)) throw fault;
      if (model === this.#model) this.trouble = fault;
    }
  }
}

function unpacked(guess: Guess, model: string, asked: number, during: boolean): Seen {
  return {
    model,
    asked,
    during,
    blank: guess.blank,
    input: numbersOfPixels(guess.input),
    answers: guess.answers,
    known: guess.known ?? null,
    layers: guess.layers.map(({ layer, maps }) => {
      const numbers = numbersOf(maps);
      return {
        name: layer,
        numbers,
        range: numbers.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0),
      };
    }),
  };
}

// From the end of a stroke to the frame that shows what the network says to it; the browser's own tools show these.
async function measured(changed: number): Promise<void> {
  await tick();
  requestAnimationFrame(() => performance.measure("guess", { start: changed, end: performance.now() }));
}

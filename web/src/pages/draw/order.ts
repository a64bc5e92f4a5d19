// Which answers become bars, and in which order.
import type { Guess } from "../../api/client";

/** Up to this many classes keep their places; of more, the best come first. */
export const STILL = 10;
/** Bars for a network of many classes; what is left is summed up. */
export const SHOWN = 8;

export interface Bar {
  name: string;
  probability: number;
  rank: number;
}

/**
 * Class names from likely to unlikely. With a `margin` two neighbours change places only if the lower one has become likelier by
 * more than that, so that bars do not jump about during a stroke.
 */
export function ranked(
  before: readonly string[],
  probability: ReadonlyMap<string, number>,
  margin = 0,
): string[] {
  const known = before.filter((name) => probability.has(name));
  const fresh = [...probability.keys()].filter((name) => !known.includes(name));
  const names = [...known, ...fresh];
  for (let k = 1; k < names.length; k++) {
    for (let place = k; place > 0; place--) {
      const [upper, lower] = [names[place - 1]!, names[place]!];
      if (probability.get(lower)! <= probability.get(upper)! + margin) break;
      names[place - 1] = lower;
      names[place] = upper;
    }
  }
  return names;
}

/** The bars of an answer, in the order of `classes`, and the sum of those that have none. */
export function bars(
  classes: readonly string[],
  answers: Guess["answers"],
  before: readonly string[],
  margin = 0,
): { bars: Bar[]; others: number | null; order: string[] } {
  const probability = new Map(answers.map((answer) => [answer.name, answer.probability]));
  if (classes.length <= STILL) {
    return {
      bars: classes.map((name, rank) => ({ name, probability: probability.get(name) ?? 0, rank })),
      others: null,
      order: [...classes],
    };
  }
  const order = ranked(before, probability, margin);
  const shown = new Map(order.slice(0, SHOWN).map((name, rank) => [name, rank]));
  return {
    bars: classes
      .filter((name) => shown.has(name))
      .map((name) => ({ name, probability: probability.get(name)!, rank: shown.get(name)! })),
    others: order.slice(SHOWN).reduce((sum, name) => sum + probability.get(name)!, 0),
    order,
  };
}

// The error curve: its axes, and the line through at most a few hundred points.

export interface Axis {
  end: number;
  ticks: number[];
}

/** From 0 to a round number at or above `most`, with 3 to 6 ticks at round numbers. */
export function axis(most: number, wholeNumbers = false): Axis {
  const least = wholeNumbers ? 10 : 0.1;
  const reach = Number.isFinite(most) ? Math.max(most, least) : least;
  const rough = reach / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough - 1e-12)!;
  const whole = wholeNumbers ? Math.max(1, Math.round(step)) : step;
  const count = Math.ceil(reach / whole - 1e-9);
  return { end: count * whole, ticks: Array.from({ length: count + 1 }, (_, at) => at * whole) };
}

/**
 * The places of a long line that are drawn: the first, the last, and of each stretch between the lowest and the highest, so that no
 * peak is lost. Places 0 .. length - 1 in rising order.
 */
export function thinned(length: number, value: (at: number) => number, stretches: number): number[] {
  if (length <= 2 * stretches) return Array.from({ length }, (_, at) => at);
  const kept = [0];
  for (let stretch = 0; stretch < stretches; stretch++) {
    const begin = Math.floor((stretch * length) / stretches);
    const end = Math.floor(((stretch + 1) * length) / stretches);
    let low = begin;
    let high = begin;
    for (let at = begin + 1; at < end; at++) {
      if (value(at) < value(low)) low = at;
      if (value(at) > value(high)) high = at;
    }
    for (const at of low < high ? [low, high] : [high, low]) if (at > kept.at(-1)!) kept.push(at);
  }
  if (kept.at(-1)! < length - 1) kept.push(length - 1);
  return kept;
}

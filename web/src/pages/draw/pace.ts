// How long something will take that is done in equal parts: from how long the parts took so far.

export class Pace {
  readonly #first = new Map<string, { done: number; at: number }>();

  /** Seconds that are left; null until a part was done before our eyes. */
  left(id: string, done: number, all: number, now: number): number | null {
    const first = this.#first.get(id);
    if (!first || done < first.done) {
      this.#first.set(id, { done, at: now });
      return null;
    }
    if (done === first.done) return null;
    return (((all - done) / (done - first.done)) * (now - first.at)) / 1000;
  }

  forget(id: string): void {
    this.#first.delete(id);
  }
}

/** Seconds as one says them: 5, 10, 15, ... up to a minute and a half, then whole minutes in seconds. */
export function rounded(seconds: number): number {
  if (seconds < 90) return Math.max(5, 5 * Math.round(seconds / 5));
  return 60 * Math.round(seconds / 60);
}

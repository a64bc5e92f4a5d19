// One piece of work at a time. While it is under way only the newest of what comes waits; older ones are dropped.

export class Newest<T> {
  readonly #work: (item: T) => Promise<void>;
  #busy = false;
  #waiting: { item: T } | null = null;

  /** @param work - settles when the next one may begin; it never rejects. */
  constructor(work: (item: T) => Promise<void>) {
    this.#work = work;
  }

  offer(item: T): void {
    this.#waiting = { item };
    if (!this.#busy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting) {
      const { item } = this.#waiting;
      this.#waiting = null;
      await this.#work(item);
    }
    this.#busy = false;
  }
}

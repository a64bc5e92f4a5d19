// What is looked at stands in the address, `#/tiny?set=lines&seed=3`, so that a view can be sent to somebody.

export const PAGES = ["tiny", "convolve", "draw"] as const;
export type Page = (typeof PAGES)[number];

class Address {
  page = $state<Page>("tiny");
  #values = $state<Record<string, string>>({});

  start(): void {
    this.#read();
    addEventListener("hashchange", () => this.#read());
  }

  /** The value of a property of this page's view, or `otherwise`. */
  get(name: string, otherwise = ""): string {
    return this.#values[name] ?? otherwise;
  }

  /** A whole number within bounds, or `otherwise`. */
  number(name: string, otherwise: number, least: number, most: number): number {
    const text = this.#values[name];
    const value = text === undefined || text.trim() === "" ? NaN : Number(text);
    return Number.isInteger(value) && value >= least && value <= most ? value : otherwise;
  }

  /** Change properties of the view; `null` takes one out. No entry is added to the browser's history. */
  set(changes: Record<string, string | number | null>): void {
    const values = { ...this.#values };
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) delete values[name];
      else values[name] = String(value);
    }
    if (JSON.stringify(values) === JSON.stringify(this.#values)) return;
    this.#values = values;
    history.replaceState(null, "", this.#text(this.page, values));
  }

  /** Where a page begins, for links. */
  link(page: Page): string {
    return `#/${page}`;
  }

  #text(page: Page, values: Record<string, string>): string {
    // These may stand in a fragment as they are, and are read more easily so.
    const query = new URLSearchParams(values)
      .toString()
      .replace(/%(?:2C|2F|3A|3B)/g, (code) => decodeURIComponent(code));
    return query ? `#/${page}?${query}` : `#/${page}`;
  }

  #read(): void {
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    this.page = PAGES.find((page) => page === path) ?? "tiny";
    this.#values = Object.fromEntries(new URLSearchParams(query));
  }
}

export const address = new Address();

// The view is in the address, `#/tiny?set=lines&seed=3`, so that it can be sent to somebody.

class Address {
  page = $state("");
  #values = $state<Record<string, string>>({});
  #pages: readonly string[] = [];

  /** `pages`: those that there are; an address that names none of them is the first one's. */
  start(pages: readonly string[]): void {
    this.#pages = pages;
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
  link(page: string): string {
    return `#/${page}`;
  }

  #text(page: string, values: Record<string, string>): string {
    // A fragment may contain these as they are, which is easier to read.
    const query = new URLSearchParams(values)
      .toString()
      .replace(/%(?:2C|2F|3A|3B)/g, (code) => decodeURIComponent(code));
    return query ? `#/${page}?${query}` : `#/${page}`;
  }

  #read(): void {
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    this.page = this.#pages.includes(path) ? path : (this.#pages[0] ?? "");
    this.#values = Object.fromEntries(new URLSearchParams(query));
  }
}

export const address = new Address();

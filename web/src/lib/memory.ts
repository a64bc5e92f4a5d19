// What the browser keeps between visits; a browser that keeps nothing is not an error.

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`convoscope.${key}`, value);
  } catch {
    // private windows may refuse
  }
}

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`convoscope.${key}`);
  } catch {
    return null;
  }
}

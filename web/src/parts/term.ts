// Where the sentence about a word is shown.

interface Size {
  width: number;
  height: number;
}

const GAP = 6;
const EDGE = 8;

/** Below the word, or above it where there is no room below; always on the screen. CSS pixels. */
export function besides(
  word: { left: number; top: number; bottom: number },
  sentence: Size,
  screen: Size,
): { left: number; top: number } {
  const below = word.bottom + GAP;
  const above = word.top - GAP - sentence.height;
  const room = screen.width - sentence.width - EDGE;
  return {
    left: Math.max(Math.min(word.left, room), EDGE),
    top: below + sentence.height > screen.height - EDGE && above >= EDGE ? above : below,
  };
}

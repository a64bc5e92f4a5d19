import { expect, test } from "vitest";
import { Hand } from "./hand";

const pointer = (pointerId: number, pointerType: string) => ({ pointerId, pointerType });

test("only the first pointer draws", () => {
  const hand = new Hand();
  expect(hand.down(pointer(1, "touch"), 0)).toBe("takes");
  expect(hand.down(pointer(2, "touch"), 1)).toBe("waits");
  expect(hand.draws(pointer(1, "touch"))).toBe(true);
  expect(hand.draws(pointer(2, "touch"))).toBe(false);
  hand.up();
  expect(hand.down(pointer(2, "touch"), 2)).toBe("takes");
});

test("a pen wins over the palm that came before it", () => {
  const hand = new Hand();
  hand.down(pointer(1, "touch"), 0);
  expect(hand.down(pointer(7, "pen"), 5)).toBe("replaces");
  expect(hand.draws(pointer(1, "touch"))).toBe(false);
  expect(hand.draws(pointer(7, "pen"))).toBe(true);
});

test("nothing takes over from a mouse or a pen", () => {
  const hand = new Hand();
  hand.down(pointer(1, "mouse"), 0);
  expect(hand.down(pointer(2, "pen"), 1)).toBe("waits");
});

test("while the pen is near, touches are the palm; later they are fingers", () => {
  const hand = new Hand();
  hand.near("pen", 1000);
  expect(hand.down(pointer(1, "touch"), 1500)).toBe("waits");
  expect(hand.down(pointer(1, "touch"), 1900)).toBe("takes");
});

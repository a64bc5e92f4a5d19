import { expect, test } from "vitest";
import { Newest } from "./newest";

test("one at a time, and of those that wait only the newest is done", async () => {
  const done: number[] = [];
  const finish: (() => void)[] = [];
  const newest = new Newest<number>((item) => {
    done.push(item);
    return new Promise((resolve) => finish.push(resolve));
  });
  for (const item of [1, 2, 3, 4]) newest.offer(item);
  expect(done).toEqual([1]);
  finish[0]!();
  await Promise.resolve();
  expect(done).toEqual([1, 4]);
  finish[1]!();
  await new Promise((resolve) => setTimeout(resolve));
  newest.offer(5);
  expect(done).toEqual([1, 4, 5]);
});

import { expect, test } from "vitest";
import { accuracy, backward, count, forward, initial, loss, random } from "./network";
import sets from "./sets.json";
import { DEFAULT_RATE, SMALL_ERROR, Training, shuffle } from "./training";
import type { Picture, Shape } from "./types";

const ONE: Shape = { filters: 1, inARow: false };

function pictures(images: { label: number; pixels: number[] }[]): Picture[] {
  return images.map(({ label, pixels }) => ({
    label: label as 0 | 1,
    pixels: Float64Array.from(pixels, (byte) => byte / 255),
  }));
}

const [lines, shapes, fruits] = sets.map(({ train, test }) => ({
  train: pictures(train),
  test: pictures(test),
}));

function training(seed = 0, set = lines!, shape = ONE): Training {
  return new Training(shape, seed, set.train, set.test);
}

test.each([
  ["lines", lines!],
  ["shapes", shapes!],
  ["fruits", fruits!],
])("%s are learnt without a fault from nearly every start, at the default rate", (_, set) => {
  let learnt = 0;
  for (let seed = 0; seed < 50; seed++) {
    const one = training(seed, set);
    while (one.epoch < 300 && one.trainAccuracyAt(one.position) < 1) one.runEpoch();
    if (one.epoch < 300) learnt++;
  }
  expect(learnt).toBeGreaterThanOrEqual(48);
});

test("an epoch is a step with each image, in the order of its seed and number", () => {
  const one = training(3);
  const parameters = initial(ONE, 3);
  for (let epoch = 0; epoch < 3; epoch++) {
    const order = new Uint16Array(lines!.train.length);
    shuffle(order, 3, epoch);
    expect([...order].sort((a, b) => a - b)).toEqual(lines!.train.map((_, at) => at));
    for (const at of order) {
      const { pixels, label } = lines!.train[at]!;
      const { gradients } = backward(ONE, parameters, forward(ONE, parameters, pixels), label);
      gradients.forEach((gradient, k) => (parameters[k]! -= DEFAULT_RATE * gradient));
    }
    one.runEpoch();
  }
  expect(one.parameters).toEqual(parameters);
  const { epoch, step, ...rest } = one.present;
  expect([epoch, step]).toEqual([3, 0]);
  expect(rest).toEqual({
    parameters,
    loss: loss(ONE, parameters, lines!.train),
    trainAccuracy: accuracy(ONE, parameters, lines!.train),
    testAccuracy: accuracy(ONE, parameters, lines!.test),
  });
});

test("orders differ from epoch to epoch and from seed to seed", () => {
  const orders = [0, 1, 2].flatMap((seed) =>
    [0, 1, 2].map((epoch) => {
      const order = new Uint16Array(40);
      shuffle(order, seed, epoch);
      return order.join();
    }),
  );
  expect(new Set(orders).size).toBe(9);
});

test("single steps and epochs come to the same numbers", () => {
  const whole = training();
  const single = training();
  whole.runEpoch();
  whole.runEpoch();
  for (let at = 0; at < 13; at++) {
    expect(lines!.train).toContain(single.next);
    single.learn();
  }
  expect([single.epoch, single.step, single.length, single.position]).toEqual([0, 13, 14, 13]);
  single.runEpoch();
  expect([single.epoch, single.step, single.length]).toEqual([1, 0, 2]);
  for (let at = 0; at < 40; at++) single.learn();
  expect([single.epoch, single.step, single.length]).toEqual([2, 0, 3]);
  expect(single.parameters).toEqual(whole.parameters);
  expect(single.at(1)).toEqual(whole.at(1));
});

test("the next image is the one that the next step learns from", () => {
  const one = training(5);
  one.learn();
  const { pixels, label } = one.next;
  const before = one.parameters.slice();
  const { gradients } = backward(ONE, before, forward(ONE, before, pixels), label);
  one.learn();
  expect(one.parameters).toEqual(before.map((number, k) => number - one.rate * gradients[k]!));
});

test("back in time every number is as it was, and training on drops what lay ahead", () => {
  const one = training();
  const seen = [one.present];
  for (let at = 0; at < 5; at++) {
    one.runEpoch();
    seen.push(one.present);
  }
  one.learn();
  one.learn();
  const [later, last] = [one.at(6), one.present];
  one.scrub(2);
  expect(one.parameters).toEqual(seen[2]!.parameters);
  expect(one.length).toBe(8);
  one.scrub(6);
  expect([one.epoch, one.step]).toEqual([5, 1]);
  expect(one.present).toEqual(later);
  one.learn();
  expect(one.present).toEqual(last);
  expect(one.length).toBe(8);

  one.scrub(2);
  one.runEpoch();
  expect(one.length).toBe(4);
  expect(one.present).toEqual(seen[3]);
  one.scrub(-3);
  expect(one.present).toEqual(seen[0]);
  one.scrub(99);
  expect(one.position).toBe(3);
});

test("a number set by hand is there from the present moment on", () => {
  const one = training();
  for (let at = 0; at < 4; at++) one.runEpoch();
  one.scrub(2);
  one.edit(new Map([[4, 7.5]]));
  expect(one.length).toBe(3);
  expect(one.present.parameters[4]).toBe(7.5);
  expect(one.present.loss).toBe(loss(ONE, one.parameters, lines!.train));
  one.scrub(0);
  expect(one.parameters).toEqual(initial(ONE, 0));
});

test("other images can come in the middle of an epoch, more and fewer", () => {
  const one = training();
  for (let at = 0; at < 10; at++) one.learn();
  one.setPictures(lines!.train.slice(0, 12), []);
  expect(one.step).toBe(10);
  expect(one.present.loss).toBe(loss(ONE, one.parameters, lines!.train.slice(0, 12)));
  expect(one.present.testAccuracy).toBeNaN();
  one.setPictures(lines!.train.slice(0, 10), lines!.test);
  expect([one.epoch, one.step]).toEqual([1, 0]);
  one.runEpoch();
  expect(one.epoch).toBe(2);
});

test("a run stops where its goal is, or where numbers leave all bounds", () => {
  const one = training();
  expect(one.run(Infinity, { epoch: 3 })).toBe("limit");
  expect(one.epochs).toBe(3);
  expect(one.run(Infinity, { loss: SMALL_ERROR, epoch: 1000 })).toBe("small");
  expect(one.present.loss).toBeLessThan(SMALL_ERROR);
  expect(one.at(one.position - 1).loss).toBeGreaterThanOrEqual(SMALL_ERROR);
  expect(one.run(0)).toBe("going");
  const wild = training(0, fruits);
  wild.rate = 50;
  expect(wild.run(Infinity, { epoch: 1000 })).toBe("broken");
});

test("20,000 epochs are kept, whole", () => {
  const few = { train: lines!.train.slice(0, 2), test: [] };
  const one = training(0, few);
  one.run(Infinity, { epoch: 20000 });
  expect(one.length).toBe(20001);
  const again = training(0, few);
  again.run(Infinity, { epoch: 12345 });
  expect(one.at(12345)).toEqual(again.present);
});

test("shapes of all sizes train", () => {
  for (const shape of [1, 2, 3, 4].map((filters) => ({ filters, inARow: false }) as Shape)) {
    const one = training(random(shape.filters)() * 100, shapes, shape);
    one.run(Infinity, { epoch: 60 });
    expect(one.parameters.length).toBe(count(shape));
    expect(one.present.loss).toBeLessThan(one.at(0).loss);
  }
});

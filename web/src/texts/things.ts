// Words for the things that networks recognise.

export interface Thing {
  /** `bicycle` */
  name: string;
  /** `a bicycle`, as the subject of a sentence. */
  one: string;
  /** `a bicycle`, as what somebody draws or sees. */
  object: string;
}

/** Things that share their articles, by the names that the server knows them by. */
export function things<T extends string>(
  one: string,
  object: string,
  names: Readonly<Record<T, string>>,
): Record<T, Thing> {
  const each = Object.entries<string>(names).map(([label, name]) => [
    label,
    { name, one: `${one} ${name}`, object: `${object} ${name}` },
  ]);
  return Object.fromEntries(each) as Record<T, Thing>;
}

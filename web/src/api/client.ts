// The one door to the server. Answers are typed by schema.d.ts, which is made from the server's OpenAPI.
import { language } from "../texts/index.svelte";
import type { components } from "./schema";

type Messages = components["schemas"];
export type Refusal = Messages["Refusal"];
export type Session = Messages["Session"];
export type TinySet = Messages["TinySet"];
export type Sample = Messages["Sample"];
export type Pixels = Messages["Pixels"];
export type Maps = Messages["Maps"];
export type NamedKernel = Messages["NamedKernel"];
export type Chain = Messages["Chain"];
export type Step = Chain["steps"][number];
export type ChainResult = Messages["ChainResult"];
export type Runs = Messages["Runs"];
export type FilterLayers = Messages["FilterLayers"];
export type Filter = Messages["Filter"];
export type PadModel = Messages["PadModel"];
export type PadModels = Messages["PadModels"];
export type PadModelDetail = Messages["PadModelDetail"];
export type Guess = Messages["Guess"];

/** A request that was refused, or that no server answered (status 0). */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

interface Options {
  method?: "GET" | "POST";
  json?: unknown;
  bytes?: Blob | ArrayBuffer | Uint8Array<ArrayBuffer>;
  signal?: AbortSignal;
}

/** Ask the server. `T` is the message that the route promises.
 * @throws Refused, or an AbortError after `signal`. */
export async function ask<T>(path: string, options: Options = {}): Promise<T> {
  const { json, bytes, signal } = options;
  const headers: Record<string, string> = {};
  let body: BodyInit | null = null;
  if (json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  } else if (bytes !== undefined) {
    headers["Content-Type"] = "application/octet-stream";
    body = bytes;
  }
  const method = options.method ?? (body === null ? "GET" : "POST");
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body, ...(signal ? { signal } : {}) });
  } catch (fault) {
    if (signal?.aborted) throw fault;
    throw new Refused(0, "no-answer", language.texts.frame.lost, "");
  }
  if (response.ok) return (await response.json()) as T;
  if (response.status === 401) throw new Refused(401, "no-session", language.texts.frame.ended, "");
  const refusal = (await response.json().catch(() => null)) as Partial<Refusal> | null;
  throw new Refused(
    response.status,
    refusal?.code ?? "unknown",
    refusal?.message ?? response.statusText,
    refusal?.hint ?? "",
  );
}

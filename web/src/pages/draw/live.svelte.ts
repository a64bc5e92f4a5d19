// The networks that can be drawn for, as the server sends them: over a websocket, and by asking while there is none.
import { ask, Refused, type PadModel, type PadModels } from "../../api/client";
import { Pace } from "./pace";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5_000;

export class Live {
  models = $state.raw<readonly PadModel[]>([]);
  /** Folders of runs that could not be read. */
  unreadable = $state.raw<readonly string[]>([]);
  /** Whether the server has sent anything yet. */
  known = $state(false);
  /** Why the server cannot be heard at present. */
  trouble = $state.raw<Refused | null>(null);
  /** Seconds until a network is made, as far as can be said. */
  left = $state.raw<ReadonlyMap<string, number>>(new Map());
  readonly #pace = new Pace();
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_WAIT_MS;
  #ended = false;

  /** Listen until the function that comes back is called. */
  start(): () => void {
    this.#connect();
    return () => {
      this.#ended = true;
      clearTimeout(this.#timer);
      const socket = this.#socket;
      // Closed while it still connects (0), a socket makes the browser complain.
      if (socket?.readyState === 0) socket.onopen = () => socket.close();
      else socket?.close();
    };
  }

  /** Take over a state that an answer brought. */
  take({ models, unreadable }: PadModels): void {
    this.models = models;
    this.unreadable = unreadable;
    this.known = true;
    this.trouble = null;
    const left = new Map<string, number>();
    for (const { id, state, epoch, epochs } of models) {
      const seconds = state === "making" ? this.#pace.left(id, epoch, epochs, performance.now()) : null;
      if (state !== "making") this.#pace.forget(id);
      if (seconds !== null) left.set(id, seconds);
    }
    this.left = left;
  }

  #connect(): void {
    const { protocol, host } = location;
    const socket = new WebSocket(`${protocol === "https:" ? "wss" : "ws"}://${host}/api/live`);
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      this.#wait = FIRST_WAIT_MS;
      const message = JSON.parse(data as string) as PadModels;
      if (message.kind === "models") this.take(message);
    };
    socket.onclose = () => {
      if (!this.#ended) void this.#poll();
    };
  }

  async #poll(): Promise<void> {
    try {
      this.take(await ask<PadModels>("/api/draw/models"));
    } catch (fault) {
      if (fault instanceof Refused) this.trouble = fault;
      else throw fault;
    }
    if (this.#ended) return;
    this.#timer = setTimeout(() => this.#connect(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT_MS);
  }
}

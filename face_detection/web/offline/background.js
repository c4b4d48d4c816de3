// The worker, seen from the page: commands as promises, and its status as events.
import { addressOf } from "../../static/addresses.js";

export class Background {
  /** @param {(status: object) => void} onStatus */
  constructor(onStatus) {
    this.waiting = new Map();
    this.next = 0;
    this.worker = new Worker(addressOf("/offline/page/worker.js"), { type: "module" });
    this.worker.addEventListener("message", ({ data }) => (data.status ? onStatus(data.status) : this.settle(data)));
    this.worker.addEventListener("error", (event) => {
      const error = event.message || "The page's worker cannot be started.";
      for (const id of [...this.waiting.keys()]) this.settle({ id, error });
    });
  }

  /** Have something done; `transfer` lists what goes over to the worker instead of being copied. */
  call(command, argument, transfer = []) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, command, argument }, transfer);
    });
  }

  settle({ id, result, error }) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }
}

// The worker's front door: it hands every request to the Wasm and decides nothing. A panic in
// the Wasm ends that instance; the next request gets a fresh one.
import wasm from "./build/edge_bg.wasm";
import * as edge from "./build/edge.js";
import { head, randomId } from "./host.mjs";

edge.initSync({ module: wasm });
let broken = false;
let generation = 0;

function guarded(call) {
  if (broken) {
    edge.__wbg_reset_state();
    broken = false;
    generation += 1;
  }
  try {
    return call();
  } catch (error) {
    broken = true; // Whatever leaves the Wasm this way has left its memory half-written.
    throw error;
  }
}

// A panic behind an `await` reaches nobody but the runtime.
const noteTrap = (reason) => {
  if (reason instanceof WebAssembly.RuntimeError) broken = true;
};
addEventListener("error", (event) => noteTrap(event.error));
addEventListener("unhandledrejection", (event) => noteTrap(event.reason));

function failed(error) {
  const id = randomId();
  console.error(`request_id=${id} the edge failed: ${error?.stack ?? error}`);
  const detail = "the edge failed; its log has it under this request's id";
  const problem = {
    type: "urn:tollgate:problem:INTERNAL",
    title: "Something went wrong on our side",
    status: 500,
    detail,
    instance: id,
    code: "INTERNAL",
    message: detail,
  };
  const headers = { "content-type": "application/problem+json", "tollgate-request-id": id };
  return Response.json(problem, { status: 500, headers });
}

export default {
  fetch(request, env, context) {
    try {
      return guarded(() => edge.answer(head(request), request, env, context));
    } catch (error) {
      return failed(error);
    }
  },
};

// One Durable Object. Its Wasm half is made anew when the instance is.
export class Limiter {
  constructor(state, env) {
    this.made = [state, env];
    this.generation = -1;
  }
  inner() {
    return guarded(() => {
      if (this.generation !== generation) {
        this.object = new edge.Limiter(...this.made);
        this.generation = generation;
      }
      return this.object;
    });
  }
  fetch(request) {
    const object = this.inner();
    return guarded(() => object.fetch(request));
  }
  alarm() {
    const object = this.inner();
    return guarded(() => object.alarm());
  }
}

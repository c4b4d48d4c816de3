// The page's worker: everything that takes time happens here, so that the page stays responsive.
import { decode, pixelsOf } from "./pixels.js";
import { Session } from "./session.js";

const opening = Session.open((status) => postMessage({ status }));

const COMMANDS = {
  connect: async (session, key) => session.connect(key),
  catchUp: async (session) => session.catchUp(),
  forget: async (session) => session.forget(),
  recognise: async (session, { source, effort }) => {
    const start = performance.now();
    const picture = source instanceof Blob ? await decode(source, session.status.limits ?? { bytes: 0, pixels: 0 }) : pixelsOf(source);
    const decoded = performance.now() - start;
    const { faces, milliseconds } = await session.recognise(picture, effort);
    return { width: picture.width, height: picture.height, faces, milliseconds: { decode: decoded, ...milliseconds } };
  },
};

// Recognitions one after another: they would only compete for the same threads.
let turn = Promise.resolve();

const answer = async (id, command, argument) => {
  try {
    postMessage({ id, result: await COMMANDS[command](await opening, argument) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};

addEventListener("message", ({ data: { id, command, argument } }) => {
  if (command === "recognise") turn = turn.then(() => answer(id, command, argument));
  else answer(id, command, argument);
});

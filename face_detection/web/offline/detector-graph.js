// YuNet's file is fixed at pictures of 640 x 640. The network itself takes any size that is a multiple of 32, so the
// sizes are taken out of the file (onnx.proto: Model 7 graph; Graph 11 input, 12 output, 13 value_info; Value 2 type;
// Type 1 tensor; Tensor 2 shape; Shape 1 dim).

const varint = (value) => {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
};

const readVarint = (bytes, at) => {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = bytes[at++];
    if (byte === undefined) throw new Error("The detector's file is damaged.");
    value += (byte & 127) * factor;
    if (byte < 128) return [value, at];
  }
};

/** Where a field ends whose content begins at `at`, and where its content really begins. */
const extent = (bytes, wire, at) => {
  switch (wire) {
    case 0: return [at, readVarint(bytes, at)[1]];
    case 1: return [at, at + 8];
    case 2: {
      const [length, content] = readVarint(bytes, at);
      return [content, content + length];
    }
    case 5: return [at, at + 4];
    default: throw new Error("The detector's file is damaged.");
  }
};

/** A message with some of its fields changed: `edits` has, by field number, what makes new content of the old, or null. */
const rewritten = (message, edits) => {
  const parts = [];
  for (let start = 0; start < message.length; ) {
    const [tag, at] = readVarint(message, start);
    const [content, end] = extent(message, tag % 8, at);
    const edit = edits[Math.floor(tag / 8)];
    const changed = edit ? edit(message.subarray(content, end)) : undefined;
    if (changed === undefined) parts.push(message.subarray(start, end));
    else if (changed) parts.push(varint(tag), varint(changed.length), changed);
    start = end;
  }
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
};

/** Batch and channels stay; a dimension without content is one of any size. */
const anySize = (shape) => {
  let axis = 0;
  return rewritten(shape, { 1: () => (axis++ < 2 ? undefined : new Uint8Array()) });
};

/** Changes the shape of an input or output. */
const withShape = (edit) => (value) =>
  rewritten(value, { 2: (type) => rewritten(type, { 1: (tensor) => rewritten(tensor, { 2: edit }) }) });

/**
 * The network for pictures of any size.
 * @param {Uint8Array} model the file.
 */
export const forAnySize = (model) =>
  rewritten(model, { 7: (graph) => rewritten(graph, { 11: withShape(anySize), 12: withShape(() => null), 13: () => null }) });

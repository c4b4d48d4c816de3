// Words and drawings for what was recognised.

export const labelOf = ({ personId, name, distance }) => {
  const how = distance === null ? "" : ` (${distance.toFixed(2)})`;
  return personId === null ? `unknown${how}` : `${name || personId}${how}`;
};

export const timesOf = (milliseconds) =>
  Object.entries(milliseconds).map(([stage, time]) => `${stage} ${time.toFixed(time < 10 ? 1 : 0)} ms`).join(", ");

export const namesOf = (faces) => (faces.length ? faces.map(labelOf).join("; ") : "no face");

/** Boxes with labels, onto a canvas that shows the picture at a scale. */
export const drawFaces = (canvas, faces, scale = 1) => {
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const size = Math.max(12, Math.round(Math.max(canvas.width, canvas.height) / 40));
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.lineWidth = Math.max(2, size / 8);
  context.textBaseline = "bottom";
  for (const face of faces) {
    const [x, y, width, height] = [face.box.x, face.box.y, face.box.width, face.box.height].map((side) => side * scale);
    const text = labelOf(face);
    const colour = style.getPropertyValue(face.personId === null ? "--unknown" : "--known");
    context.strokeStyle = context.fillStyle = colour;
    context.strokeRect(x, y, width, height);
    const top = Math.max(y, size * 1.3);
    context.fillRect(x - context.lineWidth / 2, top - size * 1.3, context.measureText(text).width + size * 0.6, size * 1.3);
    context.fillStyle = style.getPropertyValue("--surface");
    context.fillText(text, x + size * 0.2, top - size * 0.1);
  }
};

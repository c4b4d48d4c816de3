// The copy of the gallery in memory, the faces of it nearest to a face, and which of them it is.
import { metricOf } from "./distances.js";

export class Gallery {
  /** @param {string} metric how embeddings are compared. */
  constructor(metric) {
    this.metricName = metric;
    this.metric = metricOf(metric);
    this.faces = new Map();
  }

  /** Put and delete, in their order. Entries are {id, personId, name, encoding} or {id, deleted}. */
  apply(entries) {
    for (const { id, personId, name, encoding, deleted } of entries) {
      if (deleted) this.faces.delete(id);
      else this.faces.set(id, { id, personId, name, vector: this.metric.prepare(encoding) });
    }
  }

  get people() {
    return new Set(Array.from(this.faces.values(), (face) => face.personId)).size;
  }

  /** The `count` nearest faces {id, personId, name, distance}, nearest first; among equals the older one. */
  nearest(embedding, count) {
    const probe = this.metric.prepare(embedding);
    const near = [];
    for (const { id, personId, name, vector } of this.faces.values()) {
      const distance = this.metric.distance(vector, probe);
      if (near.length === count && !(distance < near.at(-1).distance)) continue;
      const place = near.findIndex((other) => distance < other.distance);
      near.splice(place < 0 ? near.length : place, 0, { id, personId, name, distance });
      if (near.length > count) near.pop();
    }
    return near;
  }
}

/**
 * Who it is: one of the faces near to a face, or nobody (face_detection/recognition/decision.py).
 * @param {{personId, distance}[]} near the nearest faces of the gallery, by ascending distance.
 * @param {{threshold: number, rule: "nearest" | "vote"}} decision
 * @returns the nearest face of the person that the rule chooses, or null.
 */
export const decide = (near, { threshold, rule }) => {
  const matching = near.filter((face) => face.distance < threshold);
  if (!matching.length || rule === "nearest") return matching[0] ?? null;
  const votes = new Map();
  for (const face of matching) votes.set(face.personId, (votes.get(face.personId) ?? 0) + 1 - face.distance / threshold);
  const most = Math.max(...votes.values());
  return matching.find((face) => votes.get(face.personId) === most);
};

// The copy of the gallery in memory, the faces of it nearest to a face, and which of them it is.
import { metricOf } from "./distances.js";
import { rateOf, thresholdOf } from "./thresholds.js";

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

  /**
   * Who a face is, by the company's decision; see face_detection/recognition/identification.py.
   * @param {Float32Array} embedding
   * @param decision the service's, in the entry of that name of /offline/models.
   * @param {boolean} nameless the face cannot carry a name.
   * @param {number} tolerance share of the threshold that holds for the face.
   * @returns {{personId, name, distance, threshold, falseMatchRate, margin, ambiguous, reason}} personId null for nobody;
   *   reason "low_quality" where a clear face might have a name.
   */
  identify(embedding, decision, nameless, tolerance) {
    const { rule, neighbours, likeness } = decision, samples = this.faces.size;
    const usual = thresholdOf(decision, samples), threshold = usual * tolerance;
    const near = this.nearest(embedding, rule === "vote" ? neighbours : 1);
    const winner = nameless ? null : decide(near, { threshold, rule });
    const distance = (winner ?? near[0])?.distance ?? null;
    if (!winner) {
      const spoilt = nameless || (distance !== null && distance >= threshold && distance < usual);
      const nobody = { personId: null, name: null, falseMatchRate: null, margin: null, ambiguous: false };
      return { ...nobody, distance, threshold, reason: spoilt ? "low_quality" : null };
    }
    const [rival] = this.nearest(embedding, 1, winner.personId);
    return {
      personId: winner.personId, name: winner.name, distance, threshold, reason: null,
      falseMatchRate: rateOf(decision, samples, distance),
      margin: rival ? rival.distance - distance : null,
      ambiguous: Boolean(rival && rival.distance <= distance * likeness),
    };
  }

  /** The `count` nearest faces {id, personId, name, distance} but one person's; nearest first, among equals the older one. */
  nearest(embedding, count, except = null) {
    const probe = this.metric.prepare(embedding);
    const near = [];
    for (const { id, personId, name, vector } of this.faces.values()) {
      if (personId === except) continue;
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

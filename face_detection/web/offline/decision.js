// Who it is: from the faces of the gallery near to a face to one of them, or nobody (face_detection/recognition/decision.py).

/**
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

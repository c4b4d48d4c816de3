// Who a face is at a threshold, decided here from what the service answered once.

/**
 * The id, name, metadata and distance of a face.
 *
 * At the default threshold that is the service's own decision, which may be a vote of several samples. At another one it
 * is the nearest candidate, if its distance is less.
 */
export function decide(face, threshold) {
  if (!threshold.moved) return { id: face.id, name: face.name, metadata: face.metadata, distance: face.distance, known: face.id !== "" };
  const nearest = face.candidates?.[0];
  if (!nearest || nearest.distance >= threshold.value) return { id: "", name: "", metadata: "", distance: face.distance, known: false };
  const metadata = nearest.id === face.id ? face.metadata : null;
  return { id: nearest.id, name: nearest.name, metadata, distance: nearest.distance, known: true };
}

/** What to call somebody: their name, or the id of those who have none. */
export const called = (person) => person.name || person.id;

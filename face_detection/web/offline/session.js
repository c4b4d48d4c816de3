// The copy of the gallery and the models: when it is fetched, followed, used and thrown away.
import { addressOf, ownName } from "../../static/addresses.js";
import { Gallery } from "./gallery.js";
import { files, forgetFiles, identityOf, keptFiles, MODELS } from "./models.js";
import { objections, toleranceOf } from "./quality.js";
import { loadRuntime, Recogniser } from "./recogniser.js";
import { askJson, Expired, Refused, Unreachable } from "./service.js";
import { Store } from "./store.js";

const LOCK = ownName("face-recognition-offline");

/** The service has changed its model meanwhile. */
class SpaceChanged extends Error {}

const entryOf = ({ faceId, personId, name, faceEncoding, deleted }) =>
  deleted ? { id: faceId, deleted } : { id: faceId, personId, name, encoding: Float32Array.from(faceEncoding) };

/**
 * The pages of what has changed in the gallery since the cursor (docs/api/dataset.md), in its order.
 * @param {string} key
 * @param {string} space that encodings must have.
 * @param {string | null} cursor from where on; null for the beginning.
 * @yields {{entries: object[], cursor: string}}
 */
async function* changes(key, space, cursor) {
  for (let more = true; more; ) {
    const query = cursor === null ? "" : `?${new URLSearchParams({ last_updated_at: cursor })}`;
    const { headers, body } = await askJson(addressOf(`/faces/sync${query}`), key);
    if (headers.get("X-Embedding-Space") !== space) throw new SpaceChanged("The service has changed its model.");
    cursor = headers.get("X-Next-Cursor");
    more = /rel="next"/.test(headers.get("Link") ?? "");
    yield { entries: body.map(entryOf), cursor };
  }
}

export class Session {
  /** @param {(status: object) => void} report told of every change of the status. */
  static async open(report) {
    const session = new Session(await Store.open(), report);
    await session.exclusively(() => session.load());
    return session;
  }

  constructor(store, report) {
    this.store = store;
    this.reportStatus = report;
    this.online = null;
    this.problem = null;
    this.progress = null;
    this.runtime = null;
    this.catchUpWaits = false;
    this.empty();
  }

  /** Copy with another key, from the beginning. */
  connect(key) {
    return this.exclusively(async () => {
      await this.drop();
      this.problem = null;
      this.state = { key, models: null, cursor: null, checkedAt: null };
      await this.store.clear(this.state);
      this.report();
      await this.follow();
    });
  }

  /** Bring the copy up to date if there is a key. */
  async catchUp() {
    // While a model is on its way for minutes, one that waits is enough.
    if (this.catchUpWaits) return;
    this.catchUpWaits = true;
    await this.exclusively(async () => {
      this.catchUpWaits = false;
      const kept = await this.store.state();
      // Another tab may have thrown the copy away, or begun another.
      if (kept?.key !== this.state?.key) await this.load();
      if (this.state) await this.follow();
    });
  }

  /** Throw everything away: gallery, models and key. */
  forget() {
    return this.exclusively(async () => {
      await this.drop();
      this.online = null;
      this.problem = null;
    });
  }

  /**
   * Faces as `Recogniser.embed` and `Gallery.identify` tell of them, and times. Their `objections` say why a face cannot
   * carry a name, whoever is near.
   */
  async recognise(picture, effort) {
    const { recogniser, gallery, state } = this;
    if (!recogniser || !gallery) throw new Error("Nothing can be recognised before gallery and models have been fetched.");
    const { faces, milliseconds } = await recogniser.embed(picture, effort);
    const start = performance.now();
    const { decision, quality } = state.models;
    const named = faces.map((face) => {
      const found = objections(face.quality, quality), tolerance = toleranceOf(face.quality, quality);
      return { ...face, ...gallery.identify(face.embedding, decision, found.length > 0, tolerance), objections: found };
    });
    return { faces: named, milliseconds: { ...milliseconds, compare: performance.now() - start } };
  }

  get status() {
    return {
      connected: this.state !== null,
      online: this.online,
      ready: this.recogniser !== null && this.gallery !== null,
      faces: this.gallery?.faces.size ?? 0,
      people: this.gallery?.people ?? 0,
      model: this.state?.models?.recognition.name ?? null,
      checkedAt: this.state?.checkedAt ?? null,
      effort: this.state?.models?.detector.effort ?? null,
      limits: this.state?.models?.limits ?? null,
      threads: this.runtime?.env.wasm.numThreads ?? null,
      progress: this.progress,
      problem: this.problem,
    };
  }

  /** One thing at a time, in all tabs, as the copy is theirs together. */
  exclusively(work) {
    return navigator.locks.request(LOCK, async () => {
      try {
        await work();
      } catch (error) {
        this.progress = null;
        this.problem = error.message;
      }
      this.report();
    });
  }

  report() {
    this.reportStatus(this.status);
  }

  empty() {
    this.state = null;
    this.gallery = null;
    this.recogniser = null;
    this.identity = null;
  }

  /** Take over what is kept. */
  async load() {
    await this.recogniser?.close();
    this.empty();
    this.state = (await this.store.state()) ?? null;
    // A copy that an older page has made lacks what this one needs; the next time online brings it.
    if (!this.state?.models?.quality) return;
    this.gallery = new Gallery(this.state.models.decision.metric);
    this.gallery.apply(await this.store.faces());
    const found = await keptFiles(this.state.models);
    if (found) await this.openRecogniser(this.state.models, found);
  }

  async drop() {
    await this.recogniser?.close();
    this.empty();
    await this.store.clear();
    await forgetFiles();
  }

  async follow() {
    try {
      await this.followOnce().catch(async (error) => {
        if (error instanceof Expired) await this.startOver();
        else if (!(error instanceof SpaceChanged)) throw error;
        return this.followOnce();
      });
    } catch (error) {
      this.progress = null;
      if (error instanceof Refused) {
        await this.drop();
        this.problem = `${error.message} What was kept here has been thrown away.`;
      } else {
        this.problem = error instanceof Unreachable ? null : error.message;
      }
      this.online = !(error instanceof Unreachable);
    }
  }

  async followOnce() {
    const { key } = this.state;
    const models = (await askJson(MODELS, key)).body;
    this.online = true;
    if (this.state.models?.space !== models.space) await this.beginAnew(key);
    if (this.gallery?.metricName !== models.decision.metric) {
      this.gallery = new Gallery(models.decision.metric);
      this.gallery.apply(await this.store.faces());
    }
    for await (const { entries, cursor } of changes(key, models.space, this.state.cursor)) {
      const state = { ...this.state, key, models, cursor, checkedAt: Date.now() };
      await this.store.apply(entries, state);
      this.state = state;
      this.gallery.apply(entries);
      this.report();
    }
    if (this.state.startedOver) await this.letGo();
    if (this.identity !== identityOf(models)) {
      await this.openRecogniser(models, await files(models, key, (done, total) => this.advance(done, total)));
    }
    this.problem = null;
  }

  /** Encodings of one model say nothing to another: keep none of them, and none of the former model. */
  async beginAnew(key) {
    await this.recogniser?.close();
    this.empty();
    this.state = { key, models: null, cursor: null, checkedAt: null };
    await this.store.clear(this.state);
  }

  /** Copy everything again; until it has come, what is here goes on naming faces. */
  async startOver() {
    const state = { ...this.state, cursor: null, round: (this.state.round ?? 0) + 1, startedOver: true };
    await this.store.apply([], state);
    this.state = state;
  }

  /** Let go of what has not come again. */
  async letGo() {
    const state = { ...this.state, startedOver: false };
    await this.store.sweep(state);
    this.state = state;
    this.gallery = new Gallery(state.models.decision.metric);
    this.gallery.apply(await this.store.faces());
  }

  async openRecogniser(models, found) {
    this.runtime ??= await loadRuntime();
    const former = this.recogniser;
    this.recogniser = await Recogniser.open(this.runtime, models, found);
    this.identity = identityOf(models);
    this.progress = null;
    await former?.close();
  }

  /** Tell of progress, but not for every packet. */
  advance(done, total) {
    const before = this.progress?.done ?? 0;
    if (done < total && done - before < total / 100 && done > before) return;
    this.progress = { done, total };
    this.report();
  }
}

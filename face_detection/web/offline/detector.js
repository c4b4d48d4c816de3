// Faces of every size, whichever way the heads are turned (face_detection/recognition/detection.py, which says why).
// All numbers come from the service: `looks` are its constants under the same names.
import { plausible, rollOf, roundHalfEven, within } from "./geometry.js";
import { around, cut, merged, mosaic, place, scaled, tiles, turned, whole, wholeFaces } from "./views.js";
import { YuNet } from "./yunet.js";

export class Detector {
  /**
   * @param ort onnxruntime-web.
   * @param {Uint8Array} file YuNet's.
   * @param {{max_side, score, nms, min_face, max_faces, effort, angles, looks}} settings of the service.
   */
  static async open(ort, file, settings) {
    const score = Math.min(settings.looks.candidate, settings.score);
    return new Detector(await YuNet.open(ort, file, { score, nms: settings.nms }), settings);
  }

  constructor(network, settings) {
    this.network = network;
    this.settings = settings;
    this.looks = settings.looks;
    const { angles } = settings, { halfway } = settings.looks;
    const between = angles.filter((angle) => angles.includes((angle + 2 * halfway) % 360)).map((angle) => angle + halfway);
    this.tilts = [...angles, ...between];
    this.sure = Math.max(settings.looks.sure, settings.score);
  }

  /** Longer side of a picture that is enough, in pixels, where `leastScale` is, too. */
  get leastSide() {
    return this.settings.max_side;
  }

  /** Scale at which a large picture is looked at: more of its pixels are not needed, up to 1. */
  leastScale(effort = this.settings.effort) {
    return Math.min(1, this.looks.seen / (this.settings.min_face * (effort === "thorough" ? 1 : 2)));
  }

  /**
   * @param {{data, width, height, fullWidth, fullHeight}} picture RGBA, reduced to no less than leastSide and leastScale.
   * @param {"fast" | "thorough"} effort how hard to look; as the service does if left out.
   * @returns faces {box, points, score} in pixels of the picture at full scale, best score first. Boxes lie within the picture.
   */
  async detect(picture, effort = this.settings.effort) {
    const { max_side: maxSide, score: least, max_faces: maxFaces, angles } = this.settings;
    const working = scaled(picture, maxSide), thorough = effort === "thorough";
    const levels = [...(await this.tiled(picture, effort)), await this.find(whole(working))];
    if (Math.max(working.width, working.height) > this.looks.largest) {
      levels.push(await this.find(whole(scaled(working, this.looks.overview))));
    }
    let rows = this.merged(levels);
    if (thorough || !rows.some(({ score }) => score >= least)) {
      const view = whole(thorough ? working : scaled(working, this.looks.turned_side));
      const more = [rows];
      for (const angle of angles) if (angle) more.push(await this.find(turned(view, angle)));
      rows = this.merged(more);
    }
    rows = this.merged([await this.lookedAt(rows, picture, working)]);
    const levelled = [];
    for (const row of rows) levelled.push(await this.levelled(row, picture, working));
    return levelled.map((row) => this.face(row, picture)).filter(Boolean).slice(0, maxFaces);
  }

  async find(view) {
    return place(view, await this.network.rows(view.picture));
  }

  merged(levels) {
    return merged(levels, { sure: this.sure, nms: this.settings.nms, inside: this.looks.inside });
  }

  /** What is seen at each finer scale than the working one, the finest first. */
  async tiled(picture, effort) {
    const { gain, tile, overlap, coarser } = this.looks, levels = [];
    const least = gain * this.settings.max_side / Math.max(picture.fullWidth, picture.fullHeight);
    for (let scale = this.leastScale(effort); scale > least; scale /= coarser) {
      const found = [];
      for (const view of tiles(picture, scale, tile, overlap)) {
        found.push(wholeFaces(view, await this.find(view), picture, scale, overlap));
      }
      levels.push(this.merged(found));
    }
    return levels;
  }

  /** The rows that are faces, each of them the right way round. */
  async lookedAt(rows, picture, working) {
    const { rescues, looks } = this.looks, least = this.settings.score;
    const sureFrom = this.settings.angles.length === 1 ? least : this.sure;
    const kept = rows.filter(({ score }) => score >= sureFrom);
    const doubtful = [
      ...rows.filter(({ score }) => score < sureFrom && score >= least),
      ...rows.filter(({ score }) => score < least).slice(0, rescues),
    ];
    for (let start = 0; start < doubtful.length; start += looks) {
      const some = doubtful.slice(start, start + looks), scores = await this.scores(some, picture, working);
      for (const [i, row] of some.entries()) {
        const face = await this.decided(row, scores[i], picture, working);
        if (face) kept.push(face);
      }
    }
    return kept;
  }

  /** A doubtful row as it is, as a closer look finds it, or null, by its score at each angle. */
  async decided(row, scores, picture, working) {
    const { unseen, turned: turnedScore, rescued, close, context } = this.looks, { angles, score: least } = this.settings;
    const upright = row.score >= least && row.angle === 0;
    const ways = row.score >= least ? scores : scores.slice(0, angles.length);
    const most = Math.max(...ways), best = this.tilts[ways.indexOf(most)];
    if (upright && row.score < unseen && !scores.slice(0, angles.length).some(Boolean)) return null;
    if (upright && (best === 0 || most < turnedScore)) return row;
    if (!upright && most < rescued) return null;
    const view = cut(this.source(row, picture, working), around(row, context), close, close);
    const [nearest] = this.central(await this.find(turned(view, best)), view.part);
    if (nearest?.score >= least) return nearest;
    return upright ? row : null;
  }

  /** Score of each row at each angle, at a small size, all in one picture: a line of views for each row. */
  async scores(rows, picture, working) {
    const { look, context } = this.looks;
    const lines = rows.map((row) => {
      const view = cut(this.source(row, picture, working), around(row, context), look, look);
      return this.tilts.map((angle) => turned(view, angle).picture);
    });
    const seen = await this.network.rows(mosaic(lines, look));
    return rows.map((_, y) =>
      this.tilts.map((_, x) => this.central(seen, { left: x * look, top: y * look, width: look, height: look })[0]?.score ?? 0),
    );
  }

  /** The row with the landmarks that are seen once the head is upright. */
  async levelled(row, picture, working) {
    const { tilt, level, levellings, context } = this.looks;
    let view = null, found = row;
    for (let i = 0; i < levellings; i++) {
      const roll = rollOf(found.points);
      if (Math.abs(((roll - found.angle + 540) % 360) - 180) < tilt) break;
      view ??= cut(this.source(row, picture, working), around(row, context), level, level);
      const [close] = this.central(await this.find(turned(view, roll)), view.part);
      if (!(close?.score >= this.settings.score)) break;
      found = { ...row, points: close.points, angle: close.angle };
    }
    return found;
  }

  /** The picture from which a face is cut that is to be looked at again: the smaller one, unless it would grow. */
  source({ width, height }, picture, working) {
    const scale = working.width / working.fullWidth;
    return Math.max(width, height) * scale >= this.looks.close / this.looks.context ? working : picture;
  }

  /** The rows near to the middle of a part, best score first. */
  central(rows, { left, top, width, height }) {
    const near = (start, length, from, whole) => Math.abs((start + length / 2 - from) / whole - 0.5) <= this.looks.off_centre;
    return rows.filter((row) => near(row.x, row.width, left, width) && near(row.y, row.height, top, height)).sort((a, b) => b.score - a.score);
  }

  /** The face, if it is one: large enough within the picture, and with landmarks that can be aligned. */
  face({ x, y, width, height, points, score }, picture) {
    const left = roundHalfEven(x), top = roundHalfEven(y);
    const found = { x: left, y: top, width: roundHalfEven(x + width) - left, height: roundHalfEven(y + height) - top };
    const box = within(found, picture.fullWidth, picture.fullHeight);
    if (Math.min(box.width, box.height) < Math.max(1, this.settings.min_face) || !plausible(points)) return null;
    return { box, points, score: Math.min(1, score) };
  }

  async close() {
    await this.network.session.release();
  }
}

"""Names for faces: from embeddings to the people whose samples are nearest. No HTTP and no SQL here."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_detection.extraction.client import ServedModel
from face_detection.gallery.directory import TenantSettings
from face_detection.gallery.events import EventKind, Occasion
from face_detection.gallery.people import Person, Sample
from face_detection.gallery.search.distances import distances, prepare
from face_detection.gallery.search.recall import RecallCheck
from face_detection.gallery.search.searcher import Nearest, Neighbour, OpenSearcher, Searcher
from face_detection.gallery.sql.directory import Directory
from face_detection.gallery.sql.history import Position
from face_detection.gallery.sql.store import Store
from face_detection.journal import Journal
from face_detection.metrics import Metrics
from face_detection.recognition.crops import Prepared, jpeg
from face_detection.recognition.decision import Candidate, Reason, Rule, alike, decide, spoilt, trust
from face_detection.recognition.liveness import is_live
from face_detection.recognition.quality import NAMING, Quality
from face_detection.recognition.thresholds import Scale, check_limit
from shared.calibration import Curve, FalseMatchRate, Limit
from shared.errors import LivenessUnavailable
from shared.geometry import Face
from shared.images import Pixels
from shared.models import Metric
from shared.settings import FrontSettings

_SAMPLES_OF_CLOSEST = 5
"""Samples looked at for each of the closest people, who may have several."""

_LOOKED_AT, _MOST_LOOKED_AT = 16, 64
"""Samples searched for so that somebody else than the nearest person is among them, who may have several: at first, and
when all of these are that person's. The first is what the approximate searches look at anyway."""

_MOST_SEARCHES = 5
"""Searches for the same faces while what they find is changed by others at the same time."""


@dataclass(frozen=True)
class Recognised:
    """A face and who it is.

    Attributes:
        face: where it is in the picture.
        quality: how well it can be recognised.
        reason: why it is nobody's however near somebody may be; None when only distances have decided.
        sample: the nearest of the person who was recognised, None when nobody is near enough.
        distance: to that sample, or else to the nearest of all; None when the gallery is empty.
        trust: 0 to 100, see ``decision.trust``; 0 when the gallery is empty, or with a reason.
        threshold: below which a distance counted as a match; see ``Quality.tolerance``.
        threshold_rate: at that threshold the rate at which strangers are named, in a gallery of this size; None where
            the model has no curve, see ``thresholds.Scale``.
        false_match_rate: the same at the distance of the match; None when nobody was recognised, too.
        margin: by how much the nearest sample of anybody else is further away, negative where it is nearer and was
            outvoted; None when nobody was recognised, and where there is nobody else. With more than
            ``_MOST_LOOKED_AT`` samples of the person nearer than anybody else, or more than ``_LOOKED_AT`` in an
            approximate search, it is at least so much.
        ambiguous: whether that is too little to tell the two apart, see ``decision.alike``.
        closest: the nearest sample of each of the closest people, whether near enough or not, if that was asked for.
        exact: whether all samples were considered, see ``gallery.search.Nearest``.
        liveness: the score of the liveness check, see ``liveness.is_live``; None where it was not asked. Nothing is
            told of who is near a face that fails.
    """

    face: Face
    quality: Quality
    reason: Reason | None
    sample: Sample | None
    distance: float | None
    trust: float
    threshold: float
    threshold_rate: float | None
    false_match_rate: float | None
    margin: float | None
    ambiguous: bool
    closest: Sequence[Candidate]
    exact: bool
    liveness: float | None = None

    @property
    def person(self) -> Person | None:
        """Who it is."""
        return self.sample.person if self.sample else None


@dataclass(frozen=True)
class _Terms:
    """How faces are named: as the request wants, else as its tenant's settings say.

    Attributes:
        limit: what is asked of the threshold.
        curve: what distances mean, None where that was not measured.
        rule, neighbours: see ``TenantSettings``.
        closest: how many people to name as the closest.
        keeps_crops: whether events keep the aligned faces.
        position: of the database, when the settings were read.
    """

    limit: Limit
    curve: Curve | None
    rule: Rule
    neighbours: int
    closest: int
    keeps_crops: bool
    position: Position


@dataclass(frozen=True)
class _Found:
    """What a search has come to.

    Attributes:
        nearest: the neighbours of each face.
        most: how many of them were looked for: a face with fewer has all that there are.
        samples: those of them that may count, by their keys.
        scale: of the gallery as it was searched.
        threshold: the distance that its terms come to.
    """

    nearest: Nearest
    most: int
    samples: dict[int, Sample]
    scale: Scale
    threshold: float


@dataclass
class _Opened:
    """The searcher of an embedding space, which is closed when it is not the current one and nobody uses it."""

    space: str
    searcher: Searcher
    recall: RecallCheck
    users: int = 0
    current: bool = True

    def close(self) -> None:
        self.recall.close()
        self.searcher.close()


class Identifier:
    """Compares faces with the samples of a tenant. Blocks; safe to use from several threads.

    Args:
        store: where samples are kept.
        directory: knows the tenants' settings.
        journal: told who was seen.
        open_searcher: makes a searcher over the store.
        settings: thresholds.
        metrics: told about matches.
    """

    def __init__(
        self,
        store: Store,
        directory: Directory,
        journal: Journal,
        open_searcher: OpenSearcher,
        settings: FrontSettings,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._directory = directory
        self._journal = journal
        self._open_searcher = open_searcher
        self._settings = settings
        self._metrics = metrics
        self._opened: _Opened | None = None
        self._opening = threading.Lock()

    def name(
        self,
        tenant: str,
        prepared: Prepared,
        model: ServedModel,
        embeddings: NDArray[np.float32],
        limit: Limit | None,
        rule: Rule | None,
        occasion: Occasion,
        closest: int,
        liveness: Sequence[float | None] | None = None,
    ) -> list[Recognised]:
        """Who each chosen face is, in order, noted in the event log; see ``Recognition.identify``.

        Args:
            prepared: faces and their crops.
            occasion: for the event log.
            tenant, model, embeddings, limit, rule, closest, liveness: see ``find``.

        Raises:
            UnsupportedRate, NotCalibrated, StorageError: see ``find``.
        """
        terms = self._terms(tenant, model, limit, rule, closest, liveness)
        found = self._find(tenant, prepared.chosen, prepared.qualities, model, embeddings, terms, liveness)
        self._note(tenant, found, prepared.portraits, occasion, terms.keeps_crops)
        return found

    def find(
        self,
        tenant: str,
        faces: Sequence[Face],
        qualities: Sequence[Quality],
        model: ServedModel,
        embeddings: NDArray[np.float32],
        limit: Limit | None = None,
        rule: Rule | None = None,
        closest: int = 0,
        liveness: Sequence[float | None] | None = None,
    ) -> list[Recognised]:
        """Who each face is, in order. Nothing is noted.

        Args:
            tenant: whose gallery.
            faces: where they are.
            qualities: how well each can be recognised.
            model: what made the embeddings.
            embeddings: (n, dimensions) float32, one for each face.
            limit: threshold; the tenant's when None.
            rule: how to decide; the tenant's when None.
            closest: how many people to name as the closest.
            liveness: a score of the liveness check for each; None where it was not asked.

        Raises:
            UnsupportedRate: ``limit`` is a rate of which the model's curve knows nothing.
            NotCalibrated: the threshold is a rate, and the model has no curve.
            LivenessUnavailable: see ``refuse_unchecked``.
            StorageError: the database failed.
        """
        terms = self._terms(tenant, model, limit, rule, closest, liveness)
        return self._find(tenant, faces, qualities, model, embeddings, terms, liveness)

    def _terms(
        self,
        tenant: str,
        model: ServedModel,
        limit: Limit | None,
        rule: Rule | None,
        closest: int,
        liveness: Sequence[float | None] | None,
    ) -> _Terms:
        settings, position = self._directory.settings_and_position(tenant)
        self.refuse_unchecked(settings, liveness)
        return _Terms(
            self.limit(model, settings, limit),
            self.curve(model, settings),
            rule or settings.rule,
            settings.neighbours,
            closest,
            settings.keep_crops,
            position,
        )

    def _find(
        self,
        tenant: str,
        faces: Sequence[Face],
        qualities: Sequence[Quality],
        model: ServedModel,
        embeddings: NDArray[np.float32],
        terms: _Terms,
        liveness: Sequence[float | None] | None,
    ) -> list[Recognised]:
        found = self._search(tenant, model, embeddings, terms)
        scores = liveness or [None] * len(faces)
        recognised = [
            self._recognised(face, quality, score, probe, neighbours, model, found, terms)
            for face, quality, score, probe, neighbours in zip(
                faces, qualities, scores, embeddings, found.nearest, strict=True
            )
        ]
        self._metrics.matches.inc(sum(one.sample is not None for one in recognised))
        return recognised

    def _recognised(
        self,
        face: Face,
        quality: Quality,
        score: float | None,
        probe: NDArray[np.float32],
        near: Sequence[Neighbour],
        model: ServedModel,
        found: _Found,
        terms: _Terms,
    ) -> Recognised:
        reason = reason_of([quality], None if score is None else [score])
        neighbours = () if reason == "not_live" else near
        scale, metric = found.scale, self.metric(model)
        threshold = found.threshold * quality.tolerance
        candidates = self._measure(found.samples, neighbours, probe, model)
        winner = None if reason else decide(candidates[: terms.neighbours], threshold, terms.rule)
        nearest = winner.distance if winner else (neighbours[0].distance if neighbours else None)
        reason = reason or spoilt(nearest, threshold, found.threshold)
        rival = _rival(winner, candidates, has_all=len(neighbours) < found.most) if winner else None
        return Recognised(
            face,
            quality,
            reason,
            winner.sample if winner else None,
            nearest,
            0.0 if reason or nearest is None else trust(nearest, threshold),
            threshold,
            scale.rate(threshold),
            scale.rate(winner.distance) if winner else None,
            rival.distance - winner.distance if winner and rival else None,
            bool(winner and rival and alike(winner.distance, rival.distance, metric)),
            _of_different_people(candidates, terms.closest),
            found.nearest.exact,
            score,
        )

    def _search(self, tenant: str, model: ServedModel, embeddings: NDArray[np.float32], terms: _Terms) -> _Found:
        """The neighbours of each embedding, and the samples of those that may count.

        A sample that was deleted or changed between the search and the look-up may have kept another from being found:
        then more are searched for again.
        """
        k = max(_LOOKED_AT, terms.neighbours if terms.rule == "vote" else 1, terms.closest * _SAMPLES_OF_CLOSEST)
        position: Position | None = terms.position
        with self._using(model) as opened:
            for _ in range(_MOST_SEARCHES):
                applied = opened.searcher.applied
                found = opened.searcher.nearest(tenant, embeddings, k, position)
                scale = Scale(terms.curve, opened.searcher.size(tenant))
                threshold = scale.distance(terms.limit)
                limit = math.inf if terms.closest else threshold
                # Whoever is not named has no need of a second person.
                counting = [row for row, near in enumerate(found) if near and near[0].distance < limit]
                samples = self._samples(tenant, [found[row] for row in counting])
                most = max(k, _MOST_LOOKED_AT) if found.exact else k
                alone = [row for row in counting if _are_of_one(found[row], samples, k)]
                if alone and k < most:
                    wider = opened.searcher.nearest(tenant, embeddings[alone], most, position)
                    samples |= self._samples(tenant, wider)
                    for row, near in zip(alone, wider, strict=True):
                        found[row] = near
                keys = {one.key for row in counting for one in found[row]}
                if all(key in samples and samples[key].change <= applied for key in keys):
                    break
                k, position = 2 * k, None
            if not found.exact:
                opened.recall.note(tenant, embeddings, found, applied)
            self._metrics.searches.labels(opened.searcher.name, "exact" if found.exact else "approximate").inc()
        return _Found(found, most, samples, scale, threshold)

    def _samples(self, tenant: str, found: Iterable[Sequence[Neighbour]]) -> dict[int, Sample]:
        keys = {one.key for neighbours in found for one in neighbours}
        return self._store.by_keys(tenant, keys) if keys else {}

    def near(
        self, tenant: str, model: ServedModel, embeddings: NDArray[np.float32], k: int, limits: Sequence[float]
    ) -> list[tuple[list[Candidate], bool]]:
        """The samples near each of some embeddings.

        Args:
            tenant: whose samples.
            model: what made the embeddings.
            embeddings: (n, dimensions) float32.
            k: how many to look at for each.
            limits: only those nearer than this, one for each embedding.

        Returns:
            For each its samples as they are now, by ascending distance, and whether there can be no more within
            the limit.

        Raises:
            StorageError: the database or the index failed.
        """
        with self._using(model) as opened:
            nearest = opened.searcher.nearest(tenant, embeddings, k)
        within = [[one for one in row if one.distance < limit] for row, limit in zip(nearest, limits, strict=True)]
        samples = self._samples(tenant, within)
        return [
            (self._measure(samples, row, probe, model), len(row) < k)
            for row, probe in zip(within, embeddings, strict=True)
        ]

    def note(self, tenant: str, found: Sequence[Recognised], crops: Pixels, occasion: Occasion) -> None:
        """Tell the journal who was seen, and who was not recognised.

        Args:
            tenant: whose gallery.
            found: what ``find`` gave.
            crops: (n, height, width, 3) uint8 BGR, one for each, kept if the tenant wants that.
            occasion: for the event log.

        Raises:
            StorageError: the database failed.
        """
        self._note(tenant, found, crops, occasion, self._directory.settings(tenant).keep_crops)

    def _note(self, tenant: str, found: Sequence[Recognised], crops: Pixels, occasion: Occasion, keeps: bool) -> None:
        for one, crop in zip(found, crops, strict=True):
            kind = EventKind.RECOGNISED if one.person else EventKind.UNKNOWN
            picture = jpeg(crop) if keeps else None
            self._journal.note(tenant, kind, one.person.id if one.person else None, one.distance, occasion, picture)

    def current(self, tenant: str, keys: Iterable[int]) -> dict[int, Sample]:
        """The samples with these keys as they are now; those that were deleted are left out.

        Raises:
            StorageError: the database failed.
        """
        return self._store.by_keys(tenant, keys)

    def _measure(
        self,
        samples: dict[int, Sample],
        neighbours: Sequence[Neighbour],
        probe: NDArray[np.float32],
        model: ServedModel,
    ) -> list[Candidate]:
        """Distances to the samples as they are now: one may have been replaced since it was found."""
        near = [samples[one.key] for one in neighbours if one.key in samples]
        near = [sample for sample in near if sample.space == model.space]
        if not near:
            return []
        metric = self.metric(model)
        rows = prepare(np.stack([sample.vector for sample in near]), metric)
        measured = distances(rows, prepare(probe[np.newaxis], metric)[0], metric)
        return sorted(map(Candidate, near, measured.tolist()), key=lambda one: (one.distance, one.sample.key))

    def requires_liveness(self, tenant: str) -> bool:
        """Whether only faces that pass the liveness check may be named.

        Raises:
            NotFound: there is no such tenant.
            StorageError: the database failed.
        """
        return self._requires_liveness(self._directory.settings(tenant))

    def refuse_unchecked(self, settings: TenantSettings, liveness: Sequence[float | None] | None) -> None:
        """Return unless a tenant's settings ask for a liveness check that was not done.

        Raises:
            LivenessUnavailable: it was not, since no worker was seen to have it.
        """
        if liveness is None and self._requires_liveness(settings):
            raise LivenessUnavailable

    def _requires_liveness(self, settings: TenantSettings) -> bool:
        return "required" in (self._settings.liveness, settings.liveness)

    def metric(self, model: ServedModel) -> Metric:
        """The distance in use."""
        return self._settings.distance or model.card.metric

    def limit(self, model: ServedModel, tenant: TenantSettings, asked: Limit | None = None) -> Limit:
        """What holds as threshold: what is asked for, else the tenant's, the installation's, or the model's.

        Raises:
            UnsupportedRate, NotCalibrated: a rate is asked for, see ``thresholds.check_limit``.
        """
        check_limit(asked, self.curve(model, tenant))
        for limit in (asked, tenant.limit, self._settings.limit):
            if limit is not None:
                return limit
        return model.card.threshold(self.metric(model)).distance

    def curve(self, model: ServedModel, tenant: TenantSettings) -> Curve | None:
        """What distances mean: by the tenant's own photos, or else by the model's card; None where it is not known."""
        own, metric = tenant.calibration, self.metric(model)
        if own is not None and (own.space, own.metric) == (model.space, metric):
            return own.curve
        return model.card.curve(metric)

    def threshold(self, model: ServedModel, tenant: TenantSettings, samples: int) -> float:
        """The distance below which faces match in requests that name none, in a gallery of so many samples.

        Raises:
            NotCalibrated: it is named by a rate, and the model has no curve.
        """
        return Scale(self.curve(model, tenant), samples).distance(self.limit(model, tenant))

    def threshold_of(self, tenant: str, model: ServedModel) -> float:
        """The same of a tenant, with its gallery as it is now. Blocks.

        Raises:
            NotFound: there is no such tenant.
            NotCalibrated, StorageError: see ``find``.
        """
        settings = self._directory.settings(tenant)
        if isinstance(self.limit(model, settings), FalseMatchRate):
            self.refresh(model)
        return self.threshold(model, settings, self.size(tenant))

    def refresh(self, model: ServedModel) -> None:
        """Bring the index for a model up to date."""
        with self._using(model) as opened:
            opened.searcher.refresh()

    def size(self, tenant: str) -> int:
        """Samples of a tenant that searches see, 0 before the first.

        Raises:
            StorageError: the database failed.
        """
        opened = self._opened
        return opened.searcher.size(tenant) if opened else 0

    def lag(self) -> int:
        """Changes that the search index does not have yet, see ``Searcher``; 0 before the first search.

        Raises:
            StorageError: the database failed.
        """
        opened = self._opened
        return opened.searcher.lag if opened else 0

    def close(self) -> None:
        """Stop what the searcher does in the background, as soon as nobody searches any more."""
        with self._opening:
            self._retire()

    def _retire(self) -> None:
        """Part with the current searcher. Called with the lock."""
        if self._opened is not None:
            self._opened.current = False
            if not self._opened.users:
                self._opened.close()
            self._opened = None

    @contextmanager
    def _using(self, model: ServedModel) -> Iterator[_Opened]:
        """The searcher for the embeddings of a model, which stays open meanwhile."""
        with self._opening:
            if self._opened is None or self._opened.space != model.space:
                self._retire()
                metric = self.metric(model)
                searcher = self._open_searcher(model.space, model.card.dimensions, metric)
                recall = RecallCheck(self._store, model.space, metric, self._metrics.note_recall)
                self._opened = _Opened(model.space, searcher, recall)
            opened = self._opened
            opened.users += 1
        try:
            yield opened
        finally:
            with self._opening:
                opened.users -= 1
                unused = not (opened.users or opened.current)
            if unused:
                opened.close()


def _are_of_one(neighbours: Sequence[Neighbour], samples: Mapping[int, Sample], k: int) -> bool:
    """Whether all of k neighbours are one person's, so that behind them may be somebody else."""
    return len(neighbours) == k and len({samples[one.key].person.id for one in neighbours if one.key in samples}) == 1


def _rival(winner: Candidate, candidates: Sequence[Candidate], has_all: bool) -> Candidate | None:
    """The nearest sample of anybody else; where none is among them but there may be more, the last stands for it."""
    others = (one for one in candidates if one.sample.person.id != winner.sample.person.id)
    return next(others, None if has_all else candidates[-1])


def reason_of(qualities: Sequence[Quality], liveness: Sequence[float] | None) -> Reason | None:
    """Why nothing may be said of whose faces these are, if there is a reason.

    Args:
        qualities: how well each can be recognised.
        liveness: scores of the liveness check; None where it was not asked.
    """
    if liveness is not None and not all(map(is_live, liveness)):
        return "not_live"
    return "low_quality" if any(NAMING.objections(quality) for quality in qualities) else None


def _of_different_people(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    nearest: dict[str, Candidate] = {}
    for candidate in candidates:
        nearest.setdefault(candidate.sample.person.id, candidate)
    return list(nearest.values())[:count]

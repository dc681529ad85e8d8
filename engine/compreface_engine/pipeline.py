"""The pipeline from a picture's bytes to its faces: decode, detect, crop, embed and analyse."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.geometry import aligned_crop, facenet_crop, whole_crop
from compreface_engine.core.image import Decoded, decode
from compreface_engine.core.parallel import ParallelMap, WorkerPool, no_idle_workers, serial_map
from compreface_engine.core.types import Align, BoundingBox, Crops, CropSpec, Detection, Image
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import Analyzer, Calculator, Detector, FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.choice import Choice, RuntimeRequest
from compreface_engine.runtimes.factory import ROWS_ON_GPU, SessionFactory
from compreface_engine.runtimes.memory import return_freed_memory

P = TypeVar("P")
_log = logging.getLogger("compreface_engine.pipeline")

_DETECTOR, _CALCULATOR, _EMBEDDING = "detector", "calculator", "embedding"
_MAX_FACES = 1000  # in one answer; a threshold of 0 may yield thousands of false detections
_FACES_AT_ONCE = 32  # whose crops are in memory together
# Bytes of a scan beside the picture for each pixel that the detector sees. Measured with pictures
# of 6 to 169 megapixels: MTCNN 94, RetinaFace 45. Those of the first 640 x 640 pixels are allocated
# at the start.
_DETECTOR_BYTES, _PREALLOCATED_PIXELS = 100, 640 * 640
_MARGIN_BYTES = 18_000  # for each column of a box that FaceNet's crop blurs: 320 rows of float64

Observe: TypeAlias = Callable[[str, float, int], None]
"""Called after each stage in the request's thread with the stage's name (`decode`, `detect`,
`crop`, `embed` or an analyzer's slug), its seconds and its number of faces (`decode`: 1). Where
requests share runs of a network, `batch` is such a run, in the thread of one of the requests."""


def _unobserved(stage: str, seconds: float, items: int) -> None:
    """The observer that ignores all stages."""


def _unlimited(count: int) -> None:
    """The reservation of an unlimited memory."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """The plugins to load, and limits; the defaults are the embedded build's.

    `threads` is the number of threads of one network, `concurrency` that of the requests, and parts
    of requests, that run at once. Their product should be the number of cores (`cores`, 0 for the
    host's). More requests only fill batches, where `batching` (`auto`, `on`, `off`) lets a network
    run faces of several requests together. `request` is the runtime and precision.
    """

    detector: str = "embedded.FaceDetector@mtcnn"
    calculator: str = "embedded.Calculator@mobilefacenet192"
    extras: tuple[str, ...] = (
        "facenet.LandmarksDetector",
        "facenet.PoseEstimator",
        "embedded.AgeDetector",
        "embedded.GenderDetector",
    )
    img_length_limit: int = 640
    models_dir: Path | None = None
    gpu_idx: int = -1
    threads: int = 1
    concurrency: int = 1
    cores: int = 0
    request: RuntimeRequest = field(default_factory=RuntimeRequest)
    batching: str = "auto"
    apply_exif: bool = False
    max_pixels: int = 178956970


@dataclass(frozen=True, slots=True)
class FaceAnswer:
    """One face: its box, the value of each answer key, and milliseconds by slug."""

    box: BoundingBox
    answers: dict[str, Any] = field(default_factory=dict)
    execution_time: dict[str, int] = field(default_factory=dict)


class Pipeline:
    """A loaded detector, calculator and analyzers. Thread-safe; stores nothing of a request."""

    def __init__(
        self,
        detector: Detector,
        calculator: Calculator,
        analyzers: Sequence[Analyzer],
        config: PipelineConfig,
        workers: WorkerPool | None = None,
    ) -> None:
        """`workers` is the pool whose `map` the plugins use; by default a pool of one worker."""
        self._detector = detector
        self._calculator = calculator
        self._analyzers = tuple(analyzers)
        self._config = config
        self._workers = workers or WorkerPool(1)
        self._observe: Observe = _unobserved
        self._runtimes: Mapping[str, Choice] = {}

    @classmethod
    def load(
        cls,
        config: PipelineConfig,
        observe: Observe = _unobserved,
        check: Callable[[], None] = lambda: None,
    ) -> Pipeline:
        """Loads all plugins and warms up their networks.

        `check` is called between the parts of a stage; its error ends the request. Raises
        ConfigurationError where a plugin cannot be loaded or run.
        """
        cv2.setNumThreads(1)  # its own pool would contend with the workers for the cores
        workers = WorkerPool(_worker_count(config), check)
        sessions = SessionFactory(
            config.request, _concurrency(config), idle_workers=workers.idle_workers
        )
        context = Context(
            open_session=sessions.file,
            models_dir=config.models_dir,
            length_limit=config.img_length_limit,
            parallel_map=workers.map,
            # On a GPU one run of all faces is the fastest, however many workers are idle.
            idle_workers=workers.idle_workers if config.gpu_idx < 0 else no_idle_workers,
            open_model=sessions.model,
            rows=None if config.gpu_idx < 0 else ROWS_ON_GPU,
        )
        networks: dict[str, Path] = {}

        def loaded(make: Callable[[str, Context], P], text: str, slug: str = "") -> P:
            # Each plugin has its own context, so that all plugins of a shared network request it.
            plugin = make(text, replace(context, opened={}))
            path = sessions.requested()
            if path is not None:
                networks[slug or getattr(plugin, "slug", text)] = path
            return plugin

        pipeline = cls(
            loaded(registry.detector, config.detector, _DETECTOR),
            loaded(registry.calculator, config.calculator, _CALCULATOR),
            [loaded(registry.analyzer, text) for text in config.extras],
            config,
            workers,
        )
        pipeline._warm_up()
        sessions.settle()
        pipeline._runtimes = {slug: sessions.choice(path) for slug, path in networks.items()}
        _log.info(
            "networks: %s",
            "; ".join(f"{slug} in {choice}" for slug, choice in pipeline._runtimes.items()),
        )
        return_freed_memory()
        pipeline._observe = observe
        sessions.on_run = partial(observe, "batch")
        return pipeline

    @property
    def plugins(self) -> dict[str, str]:
        """The version of each loaded plugin by slug; the later of two with the same slug counts."""
        return {
            _DETECTOR: self._detector.version,
            _CALCULATOR: self._calculator.version,
            **{analyzer.slug: analyzer.version for analyzer in self._analyzers},
        }

    @property
    def runtimes(self) -> dict[str, Any]:
        """How the network of each plugin that has one runs, by slug, for /status."""
        return {slug: choice.json() for slug, choice in self._runtimes.items()}

    @property
    def calculator_version(self) -> str:
        """The version string that CompreFace stores with every embedding."""
        return self._calculator.version

    @property
    def similarity_coefficients(self) -> tuple[float, float]:
        """c0 and c1 of the similarity (tanh((c0 - distance) * c1) + 1) / 2."""
        return self._calculator.similarity_coefficients

    @property
    def default_min_score(self) -> float:
        """The detector's threshold for requests that give none."""
        return self._detector.default_min_score

    def versions(self, slugs: frozenset[str], detect: bool) -> dict[str, str]:
        """The versions of the detector and of the requested plugins, by slug."""
        requested = {
            _DETECTOR,
            *(slugs & {_CALCULATOR}),
            *(analyzer.slug for analyzer in self._requested(slugs, detect)),
        }
        return {slug: version for slug, version in self.plugins.items() if slug in requested}

    def decode(
        self, data: bytes | memoryview, reserve: Callable[[int], None] = _unlimited
    ) -> Decoded:
        """The picture in `data`. Raises BadRequest and UnprocessableInput; see `core.image`.

        `reserve` is called before memory is allocated, with the peak of bytes that decoding and
        scanning need; an error that it raises ends the decoding.
        """
        started = time.perf_counter()
        decoded = decode(
            data,
            max_pixels=self._config.max_pixels,
            apply_exif=self._config.apply_exif,
            reserve=lambda width, height, peak: reserve(max(peak, self._needs(width, height))),
        )
        self._observe("decode", time.perf_counter() - started, 1)
        return decoded

    def _needs(self, width: int, height: int) -> int:
        """The bytes for scanning a picture of this size, the picture included."""
        longest = self._config.img_length_limit or max(width, height)
        part = min(1.0, longest / max(width, height))
        seen = max(0.0, width * height * part * part - _PREALLOCATED_PIXELS)
        crops = [self._calculator.crop, *(analyzer.crop for analyzer in self._analyzers)]
        margins = any(crop is not None and crop.align is Align.FACENET_MARGIN for crop in crops)
        return int(
            3 * width * height + seen * _DETECTOR_BYTES + (_MARGIN_BYTES * width if margins else 0)
        )

    def scan(
        self,
        image: Image,
        *,
        min_score: float | None,
        detect: bool,
        slugs: frozenset[str],
        limit: int = 0,
    ) -> list[FaceAnswer]:
        """The faces of an RGB uint8 [H, W, 3] picture, largest box first; [] where there is none.

        Of more than 1000 faces the most probable are kept, and of these the `limit` largest (0:
        all). `min_score` is 0..1, None for the detector's default. With `detect` False the whole
        picture is one face, and plugins that need landmarks are skipped. `slugs` are the plugins
        to run.
        """
        with self._workers.occupy():
            return self._scan(image, min_score, detect, slugs, limit)

    def _scan(
        self,
        image: Image,
        min_score: float | None,
        detect: bool,
        slugs: frozenset[str],
        limit: int,
    ) -> list[FaceAnswer]:
        started = time.perf_counter()
        if detect:
            score = self.default_min_score if min_score is None else min_score
            (detections,) = self._detector.detect([image], min_score=score)
            self._observe("detect", time.perf_counter() - started, len(detections))
        else:
            detections = [self._detector.whole(image)]
        share = _milliseconds(started) // max(1, len(detections))
        if len(detections) > _MAX_FACES:
            likely = sorted(detections, key=lambda d: d.box.probability, reverse=True)
            detections = likely[:_MAX_FACES]
        largest = sorted(detections, key=lambda d: d.box.area, reverse=True)
        detections = largest[: limit or None]
        analyzers = self._requested(slugs, detect)
        answers = [FaceAnswer(d.box, {}, {_DETECTOR: share}) for d in detections]
        for start in range(0, len(detections), _FACES_AT_ONCE):
            part = slice(start, start + _FACES_AT_ONCE)
            self._answer(image, detections[part], answers[part], analyzers, slugs)
        return answers

    def _answer(
        self,
        image: Image,
        detections: list[Detection],
        answers: list[FaceAnswer],
        analyzers: list[Analyzer],
        slugs: frozenset[str],
    ) -> None:
        crops = _CropCache(image, detections, self._workers.map, self._observe)
        if _CALCULATOR in slugs:
            started = time.perf_counter()
            cut = crops.get(self._calculator.crop)
            began = time.perf_counter()
            embeddings = self._calculator.embed(cut)
            self._observe("embed", time.perf_counter() - began, len(cut))
            _note(answers, _CALCULATOR, _EMBEDDING, embeddings, started)
        memos: list[dict[Any, Any]] = [{} for _ in detections]
        for analyzer in analyzers:
            started = time.perf_counter()
            patches = None if analyzer.crop is None else crops.get(analyzer.crop)
            faces = [
                FaceContext(image, detection, None if patches is None else patches[i : i + 1], memo)
                for i, (detection, memo) in enumerate(zip(detections, memos, strict=True))
            ]
            began = time.perf_counter()
            values = [attribute.value for attribute in analyzer.analyze(faces)]
            self._observe(analyzer.slug, time.perf_counter() - began, len(faces))
            _note(answers, analyzer.slug, analyzer.key, values, started)

    def _requested(self, slugs: frozenset[str], detect: bool) -> list[Analyzer]:
        return [a for a in self._analyzers if a.slug in slugs and (detect or not a.needs_landmarks)]

    def _warm_up(self) -> None:
        """Runs each network once, so that no request pays for first-time allocations."""
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        slugs = frozenset({_CALCULATOR})
        try:
            self.scan(noise, min_score=None, detect=True, slugs=slugs)
            self.scan(noise, min_score=None, detect=False, slugs=slugs)
        except Exception as error:  # networks that do not fit their description raise any error
            raise ConfigurationError(
                f"{self._detector.version} with {self.calculator_version} cannot run: {error}"
            ) from error


def _worker_count(config: PipelineConfig) -> int:
    """The number of network runs that the cores can compute at the same time."""
    return min(config.concurrency, config.cores or os.cpu_count() or 1)


def _concurrency(config: PipelineConfig) -> Concurrency:
    on_gpu = config.gpu_idx >= 0
    return Concurrency(
        runs=_worker_count(config),
        threads=config.threads,
        gpu_idx=config.gpu_idx,
        batching=on_gpu if config.batching == "auto" else config.batching == "on",
    )


class _CropCache:
    """The crops of one picture's faces; each kind is cut once."""

    def __init__(
        self,
        image: Image,
        detections: Sequence[Detection],
        parallel_map: ParallelMap,
        observe: Observe,
    ) -> None:
        self._parallel_map = parallel_map
        self._observe = observe
        self._image = image
        self._detections = detections
        self._cut: dict[CropSpec, Crops] = {}

    def get(self, spec: CropSpec) -> Crops:
        """The crops [N, S, S, 3] of the N faces."""
        if spec not in self._cut:
            started = time.perf_counter()
            # A crop with margins takes ten times as long as waking a worker, an aligned one less.
            run = self._parallel_map if spec.align is Align.FACENET_MARGIN else serial_map
            cut: Any = np.stack(run(lambda d: self._crop(d, spec), self._detections))
            self._cut[spec] = cut
            self._observe("crop", time.perf_counter() - started, len(cut))
        return self._cut[spec]

    def _crop(self, detection: Detection, spec: CropSpec) -> Crops:
        if spec.align is Align.FACENET_MARGIN:
            return facenet_crop(self._image, detection.box, spec.size)
        if detection.landmarks is None:
            # Without detection the picture counts as an aligned crop.
            return whole_crop(self._image, spec.size)
        return aligned_crop(self._image, detection.landmarks, spec.size)


def _note(
    answers: list[FaceAnswer], slug: str, key: str, values: Iterator[Any] | Any, started: float
) -> None:
    for answer, value in zip(answers, values, strict=True):
        answer.answers[key] = value
    share = _milliseconds(started) // max(1, len(answers))
    for answer in answers:
        answer.execution_time[slug] = share


def _milliseconds(started: float) -> int:
    return int((time.perf_counter() - started) * 1000)

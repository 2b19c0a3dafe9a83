"""run_job: build, adapt, score test once, meter. Whatever goes wrong in one job becomes its record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from vitbench.api import (
    Adaptation,
    Adapted,
    Backbone,
    Labels,
    Protocol,
    Remarks,
    Split,
    Task,
)
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.environment import describe
from vitbench.compute.meter import Meter
from vitbench.core.errors import StorageError, VitbenchError, is_full
from vitbench.core.job import Job
from vitbench.core.record import Cost, DataFacts, Record
from vitbench.core.registry import PROTOCOLS
from vitbench.core.seeding import seeded
from vitbench.data.budgets import LabelledData, labelled_data, thinned
from vitbench.data.preprocess import Preprocess, normalise, preset
from vitbench.data.sealed import sealed
from vitbench.engine.conformance import Conformance
from vitbench.engine.features import FeatureReader
from vitbench.engine.job_log import LOG
from vitbench.engine.outcome import Outcome, failed, now, said
from vitbench.engine.scoring import backbone_facts, confusion, score, worst
from vitbench.engine.worker import Worker, backbone_key

SCORES_PER_BLOCK = 8192


def run_job(job: Job, worker: Worker) -> Outcome:
    """One job to one record. Whatever a job does becomes its record; only an interrupt passes through, and a full disk.

    Raises:
        StorageError: the disk is full.
    """
    with worker.watched(job):
        try:
            LOG.info("%s on %s (key %s)", job.title, worker.device, job.key)
            outcome = _Attempt(job, worker, Meter(worker.device)).run()
            outcome.record.model_dump_json()  # what cannot be written is this job's failure, not the run's
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything
            LOG.exception("failed")
            if _is_left_alone(error):  # no fault of the job, which goes on from its state
                raise KeyboardInterrupt from error
            if is_full(error):  # the next job would fail as well: this is the run's trouble
                raise StorageError(
                    f"{job.title}: {error}; free some space, then give the same command again"
                ) from error
            return Outcome(failed(job, worker.device, error))
        LOG.info("%s", {name: metric.value for name, metric in outcome.record.metrics.items()})
        return outcome


def _is_left_alone(error: BaseException) -> bool:
    """Whether another process of those that train together has gone."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    return isinstance(error, dist.DistError) or "by peer" in said(error)


@dataclass(frozen=True)
class Answers:
    """Predicted classes (N,), and by how much the highest score of another class exceeds that of the label (N,)."""

    predictions: Labels
    margins: NDArray[np.float32]


@dataclass
class _Attempt:
    """The steps of one job, in order."""

    job: Job
    worker: Worker
    meter: Meter
    remarks: Remarks = field(default_factory=Remarks)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """A stretch of the job: metered, shown, and in the log."""
        self.worker.heartbeat.update(name)
        with self.meter.phase(name):
            yield
        LOG.info("%s: %.2f s", name, self.meter.seconds[name])

    def _note(self, text: str) -> None:
        LOG.info("note: %s", text)
        self.remarks.add(text)

    def run(self) -> Outcome:
        with self._phase("build"):
            protocol: Protocol = PROTOCOLS.make(self.job.protocol.spec, self.job.protocol.options)[1]
            backbone = self.worker.backbone(self.job)
        with self._phase("data"):
            entry, task = self.worker.task(self.job)
            data = sealed(labelled_data(task, self.job.budget, self.job.seed, self.job.limit))
            how = self._preset(backbone)
            reader = self._reader(backbone, how, data.pools)
        for remark in data.remarks:
            self._note(remark)
        with self._phase("adapt"):
            adapted = self._adapt(protocol, self._adaptation(backbone, data, reader, task))
        # Everything is chosen and frozen: only now is test opened, once.
        with self._phase("test"):
            test = thinned(task.test(), self.job.limit)
            at_test = self._at_test(adapted.backbone)
            scored = self._reader(at_test, self._preset(at_test), (test,))
            predictions = self._predict(adapted, test, scored)
        for moved in (reader, scored):
            self.meter.move(moved.seconds, "test" if moved is scored else "adapt", "features")
        forward = sum(reader.images_forward) + sum(scored.images_forward) + adapted.images_forward
        facts = DataFacts(
            group=entry.labels.get("group", ""),
            dataset=entry.labels.get("dataset", ""),
            num_classes=len(task.class_names),
            n_train=len(data.train),
            n_val=len(data.val),
            n_test=len(test),
            fingerprints={
                name: split.source.fingerprint
                for name, split in (("train", data.train), ("val", data.val), ("test", test))
                if len(split)
            },
            skipped=task.skipped(),
            departures=task.departures(),
            version=task.version,
        )
        return self._outcome(adapted, facts, scored.preprocess, (task, test, predictions), forward)

    def _at_test(self, backbone: Any) -> Any:
        """The backbone at the resolution that test is looked at: the one it was adapted at, unless the suite names another."""
        size_px = self.job.test_resolution_px
        if size_px is None or size_px == backbone.input.size_px:
            return backbone
        self._note(f"adapted at {backbone.input.size_px} px, tested at {size_px} px")
        return backbone.at_resolution(size_px).to(self.worker.device).eval()

    def _preset(self, backbone: Backbone) -> Preprocess:
        return preset(self.job.preprocess, backbone.input.size_px)

    def _adapt(self, protocol: Protocol, data: Adaptation) -> Adapted:
        """Adapt, with every global random stream seeded by the job, and see that the shared backbone stayed as it was.

        Raises:
            VitbenchError: the protocol wrote into the backbone that other jobs use too.
        """
        shared = self.worker.backbone(self.job)
        before = shared.writes()
        with seeded(self.job.seed, "adapt"):
            adapted = protocol.adapt(data)
        if shared.writes() != before or shared.training:
            self.worker.forget(backbone_key(self.job))
            raise VitbenchError(
                f"protocol {self.job.protocol.name!r} changed the backbone it was given: train a copy.deepcopy of it"
            )
        return adapted

    def _reader(self, backbone: Any, how: Preprocess, pools: tuple[Split, ...]) -> FeatureReader:
        packages = describe(self.worker.device).packages
        return FeatureReader(
            backbone,
            how,
            self.worker.device,
            self.job.dtype,
            self.worker.store,
            {
                "backbone": self.job.backbone.identity(),
                "weights": self.worker.weights_digest(self.job),
                "size_px": backbone.input.size_px,
                "preprocess": how.describe(backbone.input.mean, backbone.input.std),
                "dtype": self.job.dtype,
                "device": self.worker.device.split(":")[0],
                "packages": {
                    name: packages[name]
                    for name in ("torch", "torchvision", "timm", "pillow", "simplejpeg", "numpy")
                },
            },
            pools,
            partial(self.worker.heartbeat.update, "features"),
            decoded=self.worker.decoded,
            feature_dtype=self.job.feature_dtype,
        )

    def _adaptation(
        self, backbone: BuiltBackbone, data: LabelledData, reader: FeatureReader, task: Task
    ) -> Adaptation:
        spec = backbone.input

        def pixels(split: Split, size_px: int | None = None) -> torch.Tensor:
            how = preset(self.job.preprocess, size_px or spec.size_px)
            found = replace(reader, preprocess=how).pixel_batches(split)
            return torch.cat([batch.to(self.worker.device) for batch in found])

        return Adaptation(
            backbone,
            data.train,
            data.val,
            len(task.class_names),
            self.job.seed,
            self.worker.device,
            self.job.dtype,
            reader,
            pixels,
            lambda images: normalise(images, spec.mean, spec.std),
            self._note,
            partial(self.worker.heartbeat.update, "adapt"),
            task.flip,
            task.crop,
            self.job.task.name,
            self.job.resolution_px,
            self.worker.checkpoints(self.job),
        )

    def _predict(self, adapted: Adapted, test: Split, reader: FeatureReader) -> Answers:
        """Answers (N,) for every test example: no remainder is dropped.

        Raises:
            VitbenchError: scores are not numbers.
        """
        backbone: Any = reader.backbone
        if adapted.backbone is self.worker.backbone(self.job) and not adapted.trained_backbone:
            features = reader(test)
        else:  # the store knows the backbone as it came, not what became of it
            features = reader.extract(backbone.eval(), test)
        features = features.to(self.worker.device)
        with torch.no_grad():
            blocks = [adapted.head(block) for block in features.split(SCORES_PER_BLOCK)]
        scores = torch.cat(blocks)
        if not torch.isfinite(scores).all():
            raise VitbenchError("class scores are not finite: the features or the head have overflowed")
        predictions = np.asarray(scores.argmax(1).cpu().numpy(), dtype=np.int64)
        labels = torch.from_numpy(test.labels).to(scores.device)[:, None]
        own = scores.gather(1, labels)[:, 0]
        others = scores.scatter(1, labels, -torch.inf).amax(1)
        return Answers(predictions, (others - own).float().cpu().numpy())

    def _outcome(
        self,
        adapted: Adapted,
        facts: DataFacts,
        how: Preprocess,
        scored: tuple[Task, Split, Answers],
        images_forward: int,
    ) -> Outcome:
        task, test, answers = scored
        predictions = answers.predictions
        backbone = self.worker.backbone(self.job)
        if isinstance(adapted.backbone, BuiltBackbone):
            backbone = adapted.backbone  # at the size that the protocol's recipe has given it
        table = pd.DataFrame(
            {
                "index": test.indices,
                "name": [test.source.name(i) for i in test.indices],
                "label": test.labels,
                "prediction": predictions,
                **{f"{rule.name}_correct": rule.correct(predictions, test) for rule in task.rules},
            }
        )
        metrics = {rule.name: score(rule, predictions, test) for rule in task.rules}
        main = task.rules[0]
        stated = Conformance(self.job, facts, backbone.provenance, metrics[main.name])
        record = Record(
            key=self.job.key,
            job=self.job,
            status="ok",
            metrics=metrics,
            trials=adapted.trials,
            backbone=backbone_facts(backbone, self.worker.weights_digest(self.job)),
            data=facts,
            preprocess=how.describe(backbone.input.mean, backbone.input.std),
            conformance=stated.checks(),
            notes=tuple(self.remarks.notes),
            cost=self._cost(backbone, images_forward, adapted.images_backward),
            env=describe(self.worker.device),
            confusion=confusion(predictions, test.labels, task.class_names),
            worst=worst(answers.margins, main.correct(predictions, test) == 0),
            created=now(),
        )
        return Outcome(record, table)

    def _cost(self, backbone: BuiltBackbone, forward: int, backward: int) -> Cost:
        return Cost(
            seconds=dict(self.meter.seconds),
            device=describe(self.worker.device).device,
            device_kind="cuda" if self.worker.device.startswith("cuda") else "cpu",
            peak_memory_bytes=self.meter.peak_memory_bytes(),
            flops_per_image=self.worker.flops_per_image(self.job, backbone),
            images_forward=forward,
            images_backward=backward,
            energy_joules=self.meter.energy_joules(),
        )

"""Running one job: build the backbone, adapt it, score the test split once, measure the cost. Failures become records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import torch.distributed as dist
from torch import Tensor

from vitbench.api import Adapted, Protocol, Split, Task
from vitbench.backbones.models.wrapper import BuiltBackbone
from vitbench.compute.environment import describe, spoils_process, use
from vitbench.compute.meter import Meter
from vitbench.core.conformance import Evidence, conformance
from vitbench.core.errors import StorageError, VitbenchError, is_full, message_of
from vitbench.core.job import OLD_PREPROCESS, Job, backbone_key
from vitbench.core.record import DataFacts, Record, ScoreKind
from vitbench.core.registry import PROTOCOLS
from vitbench.core.seeding import seeded
from vitbench.data.budgets import LabelledData, labelled_data, thinned
from vitbench.data.preprocess import Preprocess, preset_of
from vitbench.data.sealed import sealed
from vitbench.engine.adaptation import JobAdaptation, Notes
from vitbench.engine.answers import Answers, answer
from vitbench.engine.features import FeatureReader
from vitbench.engine.further_sets import ScoredSet, Scorer
from vitbench.engine.job_cost import cost_of, devices
from vitbench.engine.job_facts import data_facts, score_remarks, weights_remarks
from vitbench.engine.job_log import LOG
from vitbench.engine.outcome import Outcome, failed, now, recordable
from vitbench.engine.scoring import backbone_facts, confusion, further, score, score_kind, worst
from vitbench.engine.worker import Worker, check_contents
from vitbench.store.predictions import CLUSTER

# Packages whose version features depend on.
FEATURE_PACKAGES = ("torch", "torchvision", "timm", "pillow", "simplejpeg", "numpy")


def run_job(job: Job, worker: Worker) -> Outcome:
    """Run one job. Every failure becomes its record, except an interrupt or a full disk, which end the run.

    Raises:
        StorageError: the disk is full.
    """
    with worker.watched(job):
        steps = None
        try:
            LOG.info("%s on %s (key %s)", job.title, worker.device, job.key)
            use(worker.device)
            steps = _JobRun(job, worker, Meter(worker.device))
            outcome = steps.run()
            # A record that cannot be written is a failure of this job, not of the run.
            outcome = replace(outcome, record=recordable(outcome.record))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything
            LOG.exception("failed")
            if _other_rank_is_gone(error):  # not a failure of the job, which resumes from its checkpoint
                raise KeyboardInterrupt from error
            if is_full(error):  # the next job would fail as well
                raise StorageError(
                    f"{job.title}: {error}; free some space, then run the same command again"
                ) from error
            record = failed(job, worker.device, error, steps.phase if steps else "")
            return Outcome(record, spoils_process=spoils_process(error))
        LOG.info("%s", {name: metric.value for name, metric in outcome.record.metrics.items()})
        return outcome


def _other_rank_is_gone(error: BaseException) -> bool:
    """Whether another rank has gone."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    return isinstance(error, dist.DistError) or "by peer" in message_of(error)


@dataclass(frozen=True)
class Scored:
    """A task's test split, the answers to it, what their scores are, how its images were prepared, and further test sets."""

    task: Task
    test: Split
    answers: Answers
    kind: ScoreKind
    preprocess: Preprocess
    further: tuple[ScoredSet, ...] = ()

    def table(self) -> pd.DataFrame:
        """One row per test example, for the run directory."""
        predictions, test = self.answers.predictions, self.test
        return pd.DataFrame(
            {
                "index": test.indices,
                "name": [test.source.name(i) for i in test.indices],
                "label": test.labels,
                "prediction": predictions,
                **({} if test.clusters is None else {CLUSTER: test.clusters}),
                **{f"{rule.name}_correct": rule.correct(predictions, test) for rule in self.task.rules},
            }
        )


@dataclass
class _JobRun:
    """The steps of one job, in order."""

    job: Job
    worker: Worker
    meter: Meter
    notes: Notes = field(default_factory=Notes)
    phase: str = ""

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """A phase of the job: metered, shown as progress, and logged."""
        self.phase = name
        self.worker.heartbeat.update(name)
        with self.meter.phase(name):
            yield
        LOG.info("%s: %.2f s", name, self.meter.phases[name].seconds)

    def run(self) -> Outcome:
        """Build, read the labelled data, adapt, and only then open the test split."""
        check_contents(PROTOCOLS, self.job.protocol)
        protocol: Protocol = PROTOCOLS.make(self.job.protocol.spec, self.job.protocol.options)[1]
        kind = score_kind(protocol)
        with self._phase("build"):
            backbone = self.worker.backbone(self.job)
            self.meter.others_bytes = self.worker.others_bytes(self.job)
        with self._phase("data"):
            entry, task = self.worker.task(self.job)
            drawn = labelled_data(task, self.job.budget, self.job.seed, self.job.limit)
            data = sealed(drawn)
            reader = self._reader(backbone, data.pools)
        for remark in (*weights_remarks(backbone.provenance), *task.remarks(), *data.remarks):
            self.notes.add(remark)
        if why := OLD_PREPROCESS.get(self.job.preprocess):
            self.notes.add(f"`preprocess: {self.job.preprocess}` is an old name: {why}")
        with self._phase("warm-up"):
            self.worker.warm_up(protocol)
        with self._phase("adapt"):
            adapted = self._adapt(protocol, self._adaptation(backbone, data, reader, task))
        # All choices are made and frozen: only now is the test split opened, once.
        with self._phase("test"):
            scored = self._test(adapted, task, kind)
        self.worker.heartbeat.update("comparing splits")
        facts = data_facts(entry, task, drawn, scored.test)
        if facts.duplicates and facts.duplicates.text:
            self.notes.add(facts.duplicates.text)
        return self._outcome(adapted, facts, scored)

    def _test(self, adapted: Adapted, task: Task, kind: ScoreKind) -> Scored:
        with self.meter.phase("data"):
            test = thinned(task.test(), self.job.limit)
        with self.meter.phase("build"):
            backbone = self._at_test_resolution(adapted.backbone)

        def features_of(split: Split) -> Tensor:
            return self._test_features(adapted, split, self._reader(backbone, (split,)))

        features, classes = features_of(test), len(task.class_names)
        answers = answer(adapted.head, features, test.labels, classes, kind, keep=self.worker.keep_scores)
        scorer = Scorer(adapted.head, features_of, classes, kind, self.job.limit, test, features)
        further_sets = []
        for found in scorer.scored(task):
            self.worker.heartbeat.update(f"tested on {found.name}")
            LOG.info("%s: %s", found.name, found.metric.value)
            for departure in found.facts.departures:
                self.notes.add(f"test set {found.name}: {departure}")
            further_sets.append(found)
        how = preset_of(self.job.preprocess, backbone)
        return Scored(task, test, answers, kind, how, tuple(further_sets))

    def _at_test_resolution(self, backbone: Any) -> Any:
        """The backbone at the image size it was adapted at, unless the suite names another for the test."""
        size_px = self.job.test_resolution_px
        if size_px is None or size_px == backbone.input.size_px:
            return backbone
        self.notes.add(f"adapted at {backbone.input.size_px} px, tested at {size_px} px")
        return backbone.at_resolution(size_px).to(self.worker.device).eval()

    def _adapt(self, protocol: Protocol, data: JobAdaptation) -> Adapted:
        """Adapt with every global random stream seeded by the job, and check that the shared backbone is unchanged.

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

    def _reader(self, backbone: Any, pools: tuple[Split, ...]) -> FeatureReader:
        packages = describe(self.worker.device).packages
        how = preset_of(self.job.preprocess, backbone)
        identity = {
            "backbone": self.job.backbone.identity(),
            "weights": self.worker.weights_digest(self.job),
            "size_px": backbone.input.size_px,
            "preprocess": how.describe(backbone.input.mean, backbone.input.std),
            "dtype": self.job.dtype,
            "device": self.worker.device.split(":")[0],
            "packages": {name: packages[name] for name in FEATURE_PACKAGES},
        }
        return FeatureReader(
            backbone,
            how,
            self.worker.device,
            self.job.dtype,
            self.worker.store,
            identity,
            pools,
            partial(self.worker.heartbeat.update, "features"),
            self.meter,
            decoded=self.worker.decoded,
            feature_dtype=self.job.feature_dtype,
            flops_per_image=partial(self.worker.flops_per_image, self.job, backbone),
            devices=devices(),
            warm=self.worker.warm,
            note=self.notes.add,
            verdicts=self.worker.verdicts,
        )

    def _adaptation(
        self, backbone: BuiltBackbone, data: LabelledData, reader: FeatureReader, task: Task
    ) -> JobAdaptation:
        return JobAdaptation(
            backbone=backbone,
            train=data.train,
            val=data.val,
            num_classes=len(task.class_names),
            class_names=tuple(task.class_names),
            seed=self.job.seed,
            device=self.worker.device,
            dtype=self.job.dtype,
            task=self.job.task.name,
            flip=task.flip,
            crop=task.crop,
            resolution_px=self.job.resolution_px,
            checkpoints=self.worker.checkpoints(self.job),
            reader=reader,
            preprocess=self.job.preprocess,
            notes=self.notes,
            heartbeat=self.worker.heartbeat,
        )

    def _test_features(self, adapted: Adapted, test: Split, reader: FeatureReader) -> Tensor:
        """Features (N, D) of every test example; no last batch is dropped."""
        backbone: Any = reader.backbone
        if adapted.backbone is self.worker.backbone(self.job) and not adapted.trained_backbone:
            features = reader(test)
        else:  # cached features are those of the backbone as it was loaded
            features = reader.extract(backbone.eval(), test)
        return features.to(self.worker.device)

    def _outcome(self, adapted: Adapted, facts: DataFacts, scored: Scored) -> Outcome:
        task, test, answers = scored.task, scored.test, scored.answers
        backbone = self.worker.backbone(self.job)
        if isinstance(adapted.backbone, BuiltBackbone):
            backbone = adapted.backbone  # at the image size of the protocol's recipe
        metrics = {rule.name: score(rule, answers.predictions, test) for rule in task.rules}
        metrics |= {each.name: each.metric for each in scored.further}
        main, origin = task.rules[0], backbone.provenance
        evidence = Evidence(
            self.job,
            facts,
            metrics[main.name],
            origin.trained_on,
            origin.pixel_warning,
            origin.pixels_unknown,
        )
        record = Record(
            key=self.job.key,
            job=self.job,
            status="ok",
            metrics=metrics,
            further=further(main, answers, test, len(task.class_names), scored.kind),
            test_sets={each.name: each.facts for each in scored.further},
            score_kind=scored.kind,
            trials=adapted.trials,
            backbone=backbone_facts(backbone, self.worker.weights_digest(self.job)),
            data=facts,
            preprocess=scored.preprocess.describe(backbone.input.mean, backbone.input.std),
            conformance=conformance(evidence),
            notes=(*self.notes(), *score_remarks(adapted.trials, metrics[main.name])),
            cost=cost_of(
                self.meter, adapted, self.worker.device, self.worker.flops_per_image(self.job, backbone)
            ),
            env=describe(self.worker.device),
            confusion=confusion(answers.predictions, test.labels, task.class_names),
            worst=worst(answers.margins, main.correct(answers.predictions, test) == 0),
            created=now(),
        )
        tables = {each.name: each.table for each in scored.further}
        return Outcome(record, scored.table(), answers.kept, further=tables)

"""Jobs without a suite."""

import vitbench.engine.components  # noqa: F401  registers what ships, whose versions jobs have
from vitbench.core.job import Component, Job, SuiteContext
from vitbench.core.registry import BACKBONES, PROTOCOLS, TASKS


def component(name, label="", argument="", **options):
    """A part of a job: a backbone, a task or a protocol with its options."""
    return Component(
        name=name, version=_version(name), label=label or name, argument=argument, options=options
    )


def _version(name):
    """The version of a component that is registered, whatever it is; "1" for others."""
    entries = [entry for registry in (BACKBONES, TASKS, PROTOCOLS) for entry in registry.entries()]
    return next((entry.version for entry in entries if entry.name == name), "1")


RESNET = component(
    "timm", argument="resnet10t", pretrained=False, size_px=32
)  # the smallest with weights to train


def make_job(backbone="raw_pixels", task="digits", protocol="knn", **changes):
    """A job of the built-in parts of these names, its other fields as given."""
    options = {"raw_pixels": {"size_px": 8}, "knn": {"k": 1}}
    fields = {
        "suite": SuiteContext(name="s", tasks=(task,), seeds=1), "budget": "full", "seed": 0,
        "backbone": component(backbone, **options.get(backbone, {})), "task": component(task),
        "protocol": component(protocol, **options.get(protocol, {})) if isinstance(protocol, str) else protocol,
    }  # fmt: skip
    return Job(**{**fields, **changes})

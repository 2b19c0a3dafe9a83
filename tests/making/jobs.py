"""Jobs without a suite."""

from vitbench.core.job import Component, Job, SuiteContext


def component(name, **options):
    return Component(name=name, version="1", label=name, options=options)


def make_job(backbone="raw_pixels", task="digits", protocol="knn", **changes):
    options = {"raw_pixels": {"size_px": 8}, "knn": {"k": 1}}
    fields = {
        "suite": SuiteContext(name="s", tasks=(task,), seeds=1), "budget": "full", "seed": 0,
        "backbone": component(backbone, **options.get(backbone, {})), "task": component(task),
        "protocol": component(protocol, **options.get(protocol, {})),
    }  # fmt: skip
    return Job(**{**fields, **changes})

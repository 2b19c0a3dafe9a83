"""What tests compare records by, and records that have failed."""

from vitbench.core.record import Failure


def essence(records):
    """Records without what may differ when the same job runs again: cost, time and machine."""
    return [record.model_copy(update={"cost": None, "created": "", "env": None}) for record in records]


def as_failed(record):
    """The record of the same job that has failed once."""
    failure = Failure(kind="X", message="once")
    return record.model_copy(
        update={
            "status": "failed",
            "metrics": {},
            "further": {},
            "failure": failure,
            "predictions_sha256": "",
        }
    )

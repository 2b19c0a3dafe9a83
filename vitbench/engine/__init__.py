"""Running jobs: plan, queue, executors, and the steps of one job."""

"""The vocabulary that all other packages share: jobs, records, registries, errors, files, seeds."""

"""Files, seeds, schemas, jobs, records and the cluster; knows nothing of the paper."""

"""Training of the subjects' networks: seeded, resumable, with a checkpoint of every epoch for the harness."""

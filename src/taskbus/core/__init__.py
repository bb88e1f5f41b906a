"""Decisions: what happens to a job, expressed over the ports alone."""

"""Workers: a parent that holds the queue and the store, its forker, and one child per job.

The parent never forks itself (it is heavy with the store's library). It starts a forker, a lean
process that has imported the task modules and nothing else, which keeps spare children waiting.
"""

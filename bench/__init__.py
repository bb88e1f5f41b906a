"""`make bench`: taskbus beside RQ and Celery, on one machine, in one run."""

"""`rq worker --config`: imports the tasks in the worker, so that no child has to."""

import bench.tasks  # noqa: F401

"""The bus' own tasks: jobs like all others, but no caller can name them.

Their code is in ``taskbus.task``.
"""

from taskbus.model.apimap import Entry

BUILT_IN: tuple[Entry, ...] = ()

"""How properties are tested."""

from hypothesis import settings

# No example is too slow: a busy machine is no failure.
settings.register_profile("taskbus", deadline=None)
settings.load_profile("taskbus")

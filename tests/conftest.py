"""What holds for the tests of all rooms."""

from hypothesis import settings

# No example has to be done by a time: these machines are shared.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

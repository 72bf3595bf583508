"""Settings that all rooms of the test suite share."""

from __future__ import annotations

import os

from hypothesis import settings

import corekit._core

# "fast" is the same examples every time, so that a red run is red for everybody;
# HYPOTHESIS_PROFILE=nightly goes looking for new ones. No deadlines: the machine
# that runs this may be busy.
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_report_header() -> str:
    build = corekit._core.build_info()
    return (
        f"corekit {build['version']} ({build['profile']}, {build['target']}, "
        f"simd {build['simd_level']}) from {os.path.dirname(corekit.__file__)}"
    )

"""A clock for an SDK's polling loops: seconds pass quicker, so that a poll of 30 s comes after half a second.

The SDKs offer no option for these intervals. Only the name `time` of the module that polls is replaced,
on the script's side; what the SDK sends and reads is untouched.
"""

import time
import types


def quicken(module: types.ModuleType, factor: float = 50.0) -> None:
    """Let `module` see a clock that runs `factor` times as fast."""
    started = time.time()
    clock = types.SimpleNamespace(
        **{name: getattr(time, name) for name in dir(time) if not name.startswith("_")}
    )
    clock.time = lambda: started + (time.time() - started) * factor
    clock.sleep = lambda seconds: time.sleep(seconds / factor)
    module.time = clock

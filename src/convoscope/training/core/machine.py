"""What this machine is called, and what it has."""

from __future__ import annotations

import os
import platform


def processor_name() -> str:
    """The processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine()
            )
    except OSError:
        return platform.machine()


def machine_facts() -> dict[str, str]:
    """System, cores and memory in words; the memory where the system tells it."""
    facts = {"system": platform.platform(terse=True), "cores": str(os.cpu_count() or 1)}
    sysconf, names = getattr(os, "sysconf", None), getattr(os, "sysconf_names", {})
    if sysconf is not None and "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        facts["memory"] = f"{sysconf('SC_PHYS_PAGES') * sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    return facts

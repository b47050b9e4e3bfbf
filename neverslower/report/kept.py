"""What is kept of releases between runs: environments of wheels, and roots of Debian packages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from neverslower.files.kept import KeptFolders


def releases(store: KeptFolders, clear: bool) -> Iterator[str]:
    """Yield what releases are kept, the least recently used first; with `clear`, remove all of them."""
    if clear:
        count, size = store.clear()
        yield f"releases: removed {count} entries, {size / 1e6:.1f} MB, from {store.root}"
        return
    entries = store.entries()
    size = sum(entry.size for entry in entries)
    listed = f"{len(entries)} release{'s' * (len(entries) != 1)}" if entries else "nothing"
    yield f"releases: {listed}; {size / 1e6:.1f} of {store.limit / 1e6:.0f} MB in {store.root}"
    for entry in entries:
        used = datetime.fromtimestamp(entry.used, timezone.utc).date()
        asked = entry.fields.get("asked", "unknown")
        yield f"  {entry.size / 1e6:,.1f} MB  {asked}, last used {used}  {entry.path.name}"

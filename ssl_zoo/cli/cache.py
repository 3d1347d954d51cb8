"""`ssl-zoo cache`: what the cache holds, whether it is whole, and what killed processes left in it.

Stores are counted one by one, and the shards of streams, of which there may be thousands, together.
"""

from __future__ import annotations

import sys

from ssl_zoo.cli.start import begin

HELP = """\
ssl-zoo cache: decoded images, encoded texts, tokenizers and shards of streams, made again if missing

  list [FOLDER]     what there is, and its size; without FOLDER, that of SSL_ZOO_CACHE or ~/.cache/ssl_zoo
  verify [FOLDER]   read every byte and compare it with what was written; exit code 1 if something is damaged
  sweep [FOLDER]    remove what killed processes left, which also happens whenever the cache is used
"""
VERBS = ("list", "verify", "sweep")


def main(args: list[str]) -> None:
    """Entry point. Exits with 1 for damaged stores, and for words that cannot be."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    if args[0] not in VERBS or len(args) > 2:
        sys.exit(f"ssl-zoo cache: write {', '.join(VERBS)}, then a folder or nothing; not {' '.join(args)!r}")
    begin("cache", args)
    from ssl_zoo.data import cache, shelf

    root = cache.root(args[1] if args[1:] else None)
    if args[1:] and not root.is_dir():
        sys.exit(f"ssl-zoo cache: there is no folder {root}")
    if args[0] == "sweep":
        removed = [path for room in cache.ROOMS for path in cache.sweep(root / room)]
        removed += shelf.sweep(root / shelf.ROOM)
        print("\n".join([*map(str, removed), f"{len(removed)} left-overs removed from {root}"]))
        return
    stores = cache.stores(root)
    damaged, thorough = 0, args[0] == "verify"
    for store in stores:
        wrong = cache.fault(store, thorough=True) if thorough else None
        damaged += wrong is not None
        print(
            f"{cache.size(store) / 1e6:12,.1f} MB  {store.relative_to(root)}  {wrong or cache.title(store)}"
        )
    total = sum(map(cache.size, stores))
    whole = ", all of them whole" if thorough and not damaged else ""
    print(f"{total / 1e6:12,.1f} MB  in {len(stores)} stores of {root}{whole}")
    streamed = shelf.files(root / shelf.ROOM)
    changed = {path: why for path in streamed if thorough and (why := shelf.fault(path))}
    if streamed:
        total = sum(path.stat().st_size for path in streamed)
        print(f"{total / 1e6:12,.1f} MB  in {len(streamed)} files of streams, which data.limit bounds")
    for path, why in changed.items():
        print(f"{path} {why}")
    told = []
    if damaged:
        told.append(
            f"{damaged} of {len(stores)} stores are damaged: each is built again when it is next used"
        )
    if changed:
        told.append(f"{len(changed)} of {len(streamed)} files of streams are damaged: remove them")
    if told:
        sys.exit("\n".join(told))

"""Reads the machine's tzdata for src/mood/zones.txt and for tests/zones.rs.

    python3 tests/support/zones.py table                  prints src/mood/zones.txt
    python3 tests/support/zones.py midnights FROM UNTIL   prints the start of each local day, per name
    python3 tests/support/zones.py version                prints the release, such as 2026f
"""

import datetime
import itertools
import os
import sys
import zoneinfo

EPOCH = datetime.datetime(1970, 1, 1)
SECOND = datetime.timedelta(seconds=1)
DAY = 86_400


def root_folder():
    return next((path for path in zoneinfo.TZPATH if os.path.isdir(path)), None) or sys.exit("tzdata is not installed")


def version():
    with open(os.path.join(root_folder(), "tzdata.zi"), encoding="utf-8") as file:
        return file.readline().split()[-1]


def zone_files():
    """Name -> content of its TZif file, for every IANA name including the links of the file `backward`."""
    root = root_folder()
    files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            zone = os.path.relpath(path, root)
            # Other time scales, and names that stand for whatever the machine is set to.
            if zone.startswith(("posix/", "right/")) or zone in ("localtime", "posixrules"):
                continue
            with open(path, "rb") as file:
                content = file.read()
            if content.startswith(b"TZif"):
                files[zone] = content
    return files


def table():
    names_by_rule = {}
    for name, content in zone_files().items():
        # The last line of a TZif file: the rule for all instants after the listed ones.
        names_by_rule.setdefault(content.split(b"\n")[-2].decode(), []).append(name)
    lines = []
    for rule, names in sorted(names_by_rule.items()):
        regions = {}
        for name in sorted(names):
            region, slash, place = name.rpartition("/")
            regions.setdefault(region + slash, []).append(place)
        lines.append(" ".join([rule] + [region + ",".join(places) for region, places in sorted(regions.items())]))
    return lines


def first_instants(zone, dates):
    """The first second of each of these local days, which follow one another."""
    instants = [(date - EPOCH - zone.utcoffset(date)) // SECOND for date in dates]
    lengths = [later - instant for instant, later in zip(instants, instants[1:])]
    for place, around in enumerate(zip([None] + lengths, lengths + [None])):
        # A clock change is near, and may skip midnight itself: then the day begins earlier than Python's midnight.
        if around != (DAY, DAY):
            while datetime.datetime.fromtimestamp(instants[place] - 1, zone).date() >= dates[place].date():
                instants[place] -= 1
    return instants


def midnights(start, end):
    """Lines `NAME ... : FIRST LENGTHxCOUNT ...`: the first start of a day after `start`, and the lengths of the days
    that end by `end`."""
    names_by_content = {}
    for name, content in zone_files().items():
        names_by_content.setdefault(content, []).append(name)
    # A day more to either side, whatever the zone.
    dates = [EPOCH + datetime.timedelta(days) for days in range(start // DAY - 1, end // DAY + 3)]
    for names in names_by_content.values():
        zone = zoneinfo.ZoneInfo(names[0])
        instants = [instant for instant in first_instants(zone, dates) if start < instant <= end]
        lengths = [later - instant for instant, later in zip(instants, instants[1:])]
        runs = [f"{length}x{len(list(run))}" for length, run in itertools.groupby(lengths)]
        yield " ".join(names + [":", str(instants[0])] + runs)


def main():
    match sys.argv[1:]:
        case ["table"]:
            lines = table()
        case ["midnights", start, end]:
            lines = midnights(int(start), int(end))
        case ["version"]:
            lines = [version()]
        case _:
            sys.exit(__doc__)
    for line in lines:
        print(line)


main()

"""Does a run survive faults? Kills and stops workers and removes a node, on this machine; gives recovery times and a verdict.

The counting physics makes every byte of every read verifiable. `--json` prints one JSON object as the last line. The exit status is
1 if a read was torn, a trajectory was read too often, or one was lost without being reported. `embodichain chaos` runs the same
faults for a given number of minutes.
"""

from __future__ import annotations

import itertools
import statistics
import sys

import harness

from embodichain.operations.chaos import storm
from embodichain.operations.faults import Fault


def main() -> None:
    parser = harness.parser(__doc__, "3 kills and one node")
    parser.add_argument("--kills", type=int, help="workers to kill (default 100)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between kills (default 0.5)")
    arguments = parser.parse_args()
    kills = arguments.kills or (3 if arguments.quick else 100)
    faults = itertools.chain(itertools.repeat(Fault.CRASH, kills), (Fault.HANG, Fault.NODE))
    verdict = storm(faults, pause_s=arguments.pause)
    crashes = verdict.healed_s[Fault.CRASH.value]
    figures = {
        "kills": kills,
        "kills_per_hour": round(3600 * kills / (sum(crashes) + kills * arguments.pause)),
        "recovery_s": {
            "crash_median": round(statistics.median(crashes), 2),
            "crash_most": round(max(crashes), 2),
            "hang": round(verdict.healed_s[Fault.HANG.value][0], 2),
            "node": round(verdict.healed_s[Fault.NODE.value][0], 2),
        },
        "experience_lost": round(verdict.experience_lost, 3),
        "deaths": dict(verdict.deaths),
        "published": verdict.published,
        "torn": verdict.torn,
        "over_k": verdict.over_k,
        "read_other_than_k": verdict.short,
        "lost": verdict.lost,
    }
    harness.give(figures, arguments)
    sys.exit(0 if verdict.intact else 1)


if __name__ == "__main__":
    main()

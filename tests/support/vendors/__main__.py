"""`python -m tests.support.vendors [--port N] [--reply NAME] [--hold-after N]`: a vendor as a process, to be killed.

Prints one JSON object a line: first `{"url": …}`, then one for each request as it arrives. Ends with its standard
input, so that none outlives the test that started it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from tests.support.vendors.replies import REPLIES
from tests.support.vendors.server import Vendor

if TYPE_CHECKING:
    from tests.support.vendors.acts import Act
    from tests.support.vendors.request import Request

_FOR_EVER = 86_400.0


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.vendors")
    parser.add_argument("--port", type=int, default=0, help="0 for any that is free")
    parser.add_argument("--reply", choices=sorted(REPLIES), default="pong")
    parser.add_argument(
        "--hold-after", type=int, metavar="N", help="hold back every answer after the first N, from its first byte on"
    )
    parser.add_argument("--keep-alive", action="store_true", help="keep connections open between requests")
    parser.add_argument("--quiet", action="store_true", help="print only the address")
    given = parser.parse_args()
    served = 0

    def reply(request: Request) -> Act:
        nonlocal served
        served += 1
        if not given.quiet:
            model = request.body.get("model") if request.body else None
            print(json.dumps({"path": request.path, "model": model, "schema": request.schema_name}), flush=True)
        act = REPLIES[given.reply](request)
        return act if given.hold_after is None or served <= given.hold_after else act.slow(first_byte=_FOR_EVER)

    with Vendor(reply, port=given.port, keep_alive=given.keep_alive) as vendor:
        print(json.dumps({"url": vendor.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

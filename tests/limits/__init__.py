"""What the server does not allow, or has no more of: time, room, locks; and inputs that are far too large.

Nothing hangs, nothing is lost, nothing goes on for ever, and the error says what to do.
"""

"""What is kept of a call, without secrets, and the ports through which it leaves.

- `call_record`: the record, and where in an answer it is. `redaction`: what must not be in it;
- `ports`: what the application plugs in: the recorder, and what was spent before.
"""

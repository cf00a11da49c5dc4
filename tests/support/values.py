"""Values for property tests, and the serializer that stores them."""

from __future__ import annotations

from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(), st.uuids())

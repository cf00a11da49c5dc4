"""Everything that talks to models, talking to a real one: SmolLM2 on this machine (`make test-local-llm`).

135 million parameters answer in good form and say anything at all: assert shapes, never facts.
"""

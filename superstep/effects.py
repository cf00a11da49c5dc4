"""Effects: what happens outside of the database once a super-step has committed. Handlers are declared here.

    @handler("mail", attempts=8)
    async def send(effect: Effect) -> None:
        await mailer.send(**effect.payload, idempotency_key=effect.id)

See docs/effects.md.
"""

from superstep.checkpointer import Effect, GiveUp, verify_webhook, webhook
from superstep.checkpointer import effect_handler as handler

__all__ = ["Effect", "GiveUp", "handler", "verify_webhook", "webhook"]

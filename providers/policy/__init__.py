"""Decisions about calls of models, and nothing else: no I/O, no clock, no SDK.

Time is passed in as `now`, seconds of a monotonic clock; randomness as a `random.Random`. So every rule can be tested
over thousands of schedules without waiting, and read without knowing how a call is made.

- `failures`: what a failure means: again, elsewhere, or not at all;
- `vendor_errors`: what vendors say in the body of an error, by code, else by phrase;
- `charges`: which failed attempts are paid for; `usage`: counts of tokens, made sound;
- `headers`: when a provider asks to be asked again;
- `backoff`: how long until the next attempt on the same deployment;
- `breaker`: when a deployment is left alone;
- `limits`: requests and tokens a minute;
- `strategies`: which deployment is asked first;
- `hedging`: what second attempts may cost;
- `ledger`: what calls in flight may still spend, and when a budget is used up;
- `recent`: what calls lately took;
- `estimate`: how many tokens a text has, before a provider has counted them.
"""

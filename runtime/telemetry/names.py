"""Names of spans, attributes and metrics. Those that start with `gen_ai`, `db` or `error` are OpenTelemetry's.

`tests/runtime/telemetry/test_names.py` compares them with the installed `opentelemetry-semantic-conventions`. The names
for generative AI are still marked "development" there.
"""

from __future__ import annotations

from typing import Final

# Attributes.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CONVERSATION: Final = "gen_ai.conversation.id"
WORKFLOW: Final = "gen_ai.workflow.name"
PROMPT: Final = "gen_ai.prompt.name"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - tokens of models
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
DATABASE: Final = "db.system.name"
STATEMENT: Final = "db.query.text"
VERB: Final = "db.operation.name"
ROWS: Final = "db.response.returned_rows"
SQLSTATE: Final = "db.response.status_code"
ERROR: Final = "error.type"

STATUS: Final = "superstep.run.status"
ATTEMPTS: Final = "superstep.attempts"
REPAIRS: Final = "superstep.repairs"
DRIFTS: Final = "superstep.drifts"
ESCALATED: Final = "superstep.escalated"
READS: Final = "superstep.reads"
WRITES: Final = "superstep.writes"
COMMIT: Final = "superstep.commit"
NODES: Final = "superstep.nodes"
NODE: Final = "superstep.node"
NAMESPACE: Final = "superstep.namespace"
OUTCOME: Final = "superstep.outcome"
REUSED: Final = "superstep.llm_reused"
RESUMED: Final = "superstep.resumed"
VALIDATED: Final = "superstep.validated"
EXECUTION: Final = "superstep.execution"
ROUTE: Final = "superstep.route"
COST: Final = "superstep.cost_usd"
DEPLOYMENT: Final = "superstep.deployment"

# Values of `gen_ai.operation.name`.
RUN: Final = "invoke_workflow"
CHAT: Final = "chat"

# Spans and their events.
STEP_SPAN: Final = "superstep"
TASK_SPAN: Final = "task"
READ_SPAN: Final = "read"
COMMIT_SPAN: Final = "commit"
CONFLICT_EVENT: Final = "superstep.conflict"
INTERRUPT_EVENT: Final = "superstep.interrupt"
REUSED_EVENT: Final = "superstep.answer_reused"
TRIED_EVENT: Final = "superstep.deployment_left"

# Metrics.
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - tokens of models
CALL_DURATION: Final = "gen_ai.client.operation.duration"
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
RUN_DURATION: Final = "superstep.run.duration"
STEP_DURATION: Final = "superstep.step.duration"
COMMIT_DURATION: Final = "superstep.commit.duration"
STEP_REPAIRS: Final = "superstep.step.repairs"
STEP_DRIFTS: Final = "superstep.step.drifts"
CONFLICTS: Final = "superstep.conflicts"

TRACEPARENT: Final = "superstep_traceparent"  # of a checkpoint's metadata
